// Elements, and nothing that reads markup: text of peers is only ever set as text.
(() => {
  "use strict";
  const paceline = (window.paceline = window.paceline || {});
  const SVG = "http://www.w3.org/2000/svg";

  paceline.byId = (id) => document.getElementById(id);

  // Set an attribute only when it changes, so that a drawing at rest costs nothing; null takes it away.
  paceline.attr = (node, name, value) => {
    if (value === null || value === undefined || value === false) {
      if (node.hasAttribute(name)) node.removeAttribute(name);
    } else if (node.getAttribute(name) !== String(value)) {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  };

  paceline.text = (node, value) => {
    const words = value === null || value === undefined ? "" : String(value);
    if (node.textContent !== words) node.textContent = words;
  };

  const furnish = (node, attributes, children) => {
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "text") paceline.text(node, value);
      else if (typeof value === "function") node.addEventListener(name, value);
      else paceline.attr(node, name, value);
    }
    node.append(...children);
    return node;
  };
  paceline.el = (tag, attributes = {}, ...children) => furnish(document.createElement(tag), attributes, children);
  paceline.svg = (tag, attributes = {}, ...children) =>
    furnish(document.createElementNS(SVG, tag), attributes, children);

  // Fill a fieldset with a choice of one out of a few.
  paceline.choose = (fieldset, options, current, take) => {
    for (const [value, says] of options) {
      const input = paceline.el("input", { type: "radio", name: fieldset.id, value, change: () => take(value) });
      input.checked = value === current;
      fieldset.append(paceline.el("label", {}, input, paceline.el("span", { text: says })));
    }
  };

  // Make a parent's children follow a list: one per item, found again by its key, so that focus, open details and
  // transitions survive an update.
  paceline.match = (parent, items, key, make, update) => {
    const known = parent.pacelineChildren || (parent.pacelineChildren = new Map());
    const wanted = new Set();
    let place = parent.firstChild;
    items.forEach((item, number) => {
      const name = String(key(item, number));
      if (wanted.has(name)) return;
      wanted.add(name);
      let node = known.get(name);
      if (!node) {
        node = make(item);
        known.set(name, node);
      }
      update(node, item, number);
      if (node === place) place = place.nextSibling;
      else parent.insertBefore(node, place);
    });
    for (const [name, node] of known) {
      if (!wanted.has(name)) {
        known.delete(name);
        node.remove();
      }
    }
  };
})();

// The last commits as links of a chain: what each of them stands on, who vouched for it, and what was given up before.
(() => {
  "use strict";
  const paceline = (window.paceline = window.paceline || {});
  const { byId, el, text, attr, match, words } = paceline;
  const LATEST = 10;
  const MORE = 40;
  let many = LATEST;

  const make = () => el("li", {},
    el("details", {},
      el("summary", {},
        ...["round", "digest", "published by", "training loss", "validation loss", "receipts", "committed"].map((name, number) =>
          el(number === 1 ? "code" : "span", { class: `cell-${number}` }, el("span", { class: "unseen", text: `${name} ` }), el("span")))),
      el("dl")),
    el("p", { class: "broken", text: "does not stand on the commit before" }),
    el("ul", { class: "voids" }));

  const facts = (picture, round) => [
    ["digest", round.digest, true],
    ["stands on", round.prev_digest, true],
    ["weights", round.weights_digest, true],
    ["published by", `${paceline.nameOf(picture, round.author)} in term ${round.term}, attempt ${round.attempt}`],
    ["committed", round.committed_at === null ? "not yet" : `${words.clock(round.committed_at)}, ${words.day(round.committed_at)}`],
    ["members", round.members.map((peerId, number) =>
      `${paceline.nameOf(picture, peerId)} (${words.count(round.samples[number])})`).join(", ")],
  ];

  const updateFacts = (list, picture, round) => match(list, facts(picture, round), (fact) => fact[0],
    () => el("div", {}, el("dt"), el("dd")), (node, [name, value, isCode]) => {
      text(node.firstChild, name);
      text(node.lastChild, value || words.DASH);
      attr(node.lastChild, "class", isCode ? "code" : null);
    });

  const voidWords = (picture, void_) => {
    const blamed = void_.blamed.map((peerId) => paceline.nameOf(picture, peerId));
    return `attempt ${void_.attempt} of term ${void_.term} given up: ${void_.cause}`
      + (blamed.length ? ` (${words.list(blamed)} held responsible)` : "");
  };

  const update = (picture, now, before) => (node, round) => {
    const [details, broken, voids] = node.children;
    const isOpen = round.committed_at === null;
    attr(node, "data-open", isOpen);
    const receipts = `${round.receipts}/${round.members.length || "?"}`;
    const cells = isOpen
      ? [words.count(round.round_id), "in progress", "", "", "", round.receipts ? receipts : "", ""]
      : [words.count(round.round_id), words.digest(round.digest), paceline.nameOf(picture, round.author), words.loss(round.avg_loss),
        words.loss(round.val_loss), receipts,
        picture.is_live ? `${words.duration(now - round.committed_at)} ago` : words.clock(round.committed_at)];
    cells.forEach((value, number) => text(details.firstChild.children[number].lastChild, value));
    updateFacts(details.lastChild, picture, round);
    const last = before.get(round.round_id - 1);
    const isBroken = Boolean(last && last.digest && round.prev_digest && last.digest !== round.prev_digest);
    attr(node, "data-broken", isBroken);
    broken.hidden = !isBroken;
    match(voids, round.voids, (void_) => `${void_.term} ${void_.attempt}`, () => el("li"),
      (item, void_) => text(item, voidWords(picture, void_)));
  };

  const more = (hidden) => {
    const button = byId("chain-more") || el("button", { type: "button", id: "chain-more", class: "quiet", click: () => {
      many += MORE;
      document.dispatchEvent(new Event("paceline-redraw"));
    } });
    if (!button.parentNode) byId("chain").after(button);
    button.hidden = hidden <= 0;
    text(button, `${words.plural(Math.min(hidden, MORE), "older round")}`);
  };

  paceline.chain = {
    show(picture, now) {
      const rounds = [...picture.rounds].reverse();
      const shown = rounds.slice(0, many);
      const before = new Map(picture.rounds.map((round) => [round.round_id, round]));
      match(byId("chain"), shown, (round) => round.round_id, make, update(picture, now, before));
      byId("chain-none").hidden = rounds.length > 0;
      byId("chain-columns").hidden = rounds.length === 0;
      more(rounds.length - shown.length);
      const voided = picture.attempts_voided;
      text(byId("chain-readout"), `height ${words.count(picture.rounds_committed)}`
        + (voided ? `  ·  ${words.plural(voided, "attempt")} given up` : ""));
    },
  };
})();

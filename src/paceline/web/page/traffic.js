// What was sent, against what data-parallel training of the same steps would have sent.
(() => {
  "use strict";
  const paceline = (window.paceline = window.paceline || {});
  const { byId, el, text, attr, match, words } = paceline;

  const make = () => el("div", {}, el("dt"), el("dd", {}, el("span", { class: "meter", "aria-hidden": "true" }, el("span")), el("b")));

  const update = (node, bar) => {
    text(node.firstChild, bar.name);
    attr(node, "data-bar", bar.key);
    node.querySelector(".meter span").style.width = `${Math.max(bar.share * 100, bar.bytes > 0 ? 0.8 : 0)}%`;
    text(node.querySelector("b"), words.size(bar.bytes));
  };

  const ratioWords = (sent, would) => {
    if (!sent || !would) return ["", "Nothing to compare yet"];
    if (would >= sent) return [words.times(would / sent), "less than data-parallel training"];
    return [words.times(sent / would), "more than data-parallel training"];
  };

  const facts = (picture) => {
    const rounds = paceline.committed(picture);
    const peers = rounds.length ? rounds.reduce((sum, round) => sum + round.members.length, 0) / rounds.length : 0;
    const each = peers && picture.rounds_committed && !picture.is_past ? picture.bytes_sent / (peers * picture.rounds_committed) : null;
    return [
      ["per peer and round", words.size(each)],
      ["steps of the round", words.count(picture.inner_steps)],
      ["weights", words.count(picture.parameters)],
    ];
  };

  paceline.traffic = {
    show(picture) {
      const [sent, would] = [picture.bytes_sent, picture.data_parallel_bytes];
      const most = Math.max(sent, would, 1);
      match(byId("traffic-bars"), [
        { key: "here", name: "this run", bytes: sent, share: sent / most },
        { key: "parallel", name: "data-parallel", bytes: would, share: would / most },
      ], (bar) => bar.key, make, update);
      const [ratio, rest] = ratioWords(sent, would);
      const line = byId("traffic-ratio");
      if (!line.firstChild) line.append(el("b"), " ", el("span"));
      text(line.firstChild, ratio);
      text(line.lastChild, rest);
      text(byId("traffic-readout"), picture.is_past ? "over the whole run" : "");
      match(byId("traffic-facts"), facts(picture), (fact) => fact[0], () => el("div", {}, el("dt"), el("dd")), (node, fact) => {
        text(node.firstChild, fact[0]);
        text(node.lastChild, fact[1]);
      });
      text(byId("traffic-note"), "Data-parallel training averages all gradients after every step: here in float32, around a ring of the same peers.");
    },
  };
})();

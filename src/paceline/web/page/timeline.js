// Where the time goes: one lane per peer, coloured by phase, so that waste is seen.
(() => {
  "use strict";
  const paceline = (window.paceline = window.paceline || {});
  const { byId, el, svg, text, attr, match, words, PHASES } = paceline;
  const WIDTH = 1000;
  const TICK_PX = 66;
  const MANY = 20;
  let shown = 5;
  let picture = null;

  // Spans of the rounds shown, by peer; a peer that is lost is lost from its last sign of life on.
  const lanesOf = () => {
    const latest = Math.max(0, ...picture.spans.map((span) => span.round_id));
    const spans = picture.spans.filter((span) => span.round_id > latest - shown);
    const begin = Math.min(...spans.map((span) => span.begin));
    const isMoving = picture.is_live && !paceline.isOver(picture);
    const end = Math.max(isMoving ? picture.at : 0, ...spans.filter((span) => span.standing !== "lost").map((span) => span.end));
    const lanes = picture.peers.map((peer) => {
      const own = spans.filter((span) => span.peer_id === peer.peer_id && span.begin < end)
        .map((span) => (span.end > end ? { ...span, end } : span));
      const last = own[own.length - 1];
      const from = last ? last.end : begin;
      if (peer.standing === "lost" && end - from > 0.05) {
        own.push({ peer_id: peer.peer_id, round_id: peer.round_id, standing: "lost", begin: from, end });
      }
      return { peer, spans: joined(own) };
    });
    return { lanes, begin, end, isEmpty: !spans.length };
  };

  const joined = (spans) => {
    const out = [];
    for (const span of spans) {
      const last = out[out.length - 1];
      if (last && last.standing === span.standing && last.round_id === span.round_id && span.begin - last.end < 0.01) {
        out[out.length - 1] = { ...last, end: span.end };
      } else out.push(span);
    }
    return out;
  };

  const sums = (spans) => {
    const seconds = {};
    for (const span of spans) {
      const phase = paceline.phase(span.standing);
      seconds[phase] = (seconds[phase] || 0) + span.end - span.begin;
    }
    const total = Object.values(seconds).reduce((sum, value) => sum + value, 0);
    return { seconds, total };
  };

  const legend = (lanes) => {
    const { seconds, total } = sums(lanes.flatMap((lane) => lane.spans));
    const items = PHASES.filter((phase) => seconds[phase.name] || ["train", "wait", "reduce", "attest", "apply"].includes(phase.name));
    match(byId("phases"), items, (phase) => phase.name,
      (phase) => el("li", {}, el("span", { class: `swatch phase-${phase.name}`, "aria-hidden": "true" }),
        el("span", { text: phase.says }), " ", el("b")),
      (node, phase) => text(node.querySelector("b"), total ? words.percent((seconds[phase.name] || 0) / total) : words.DASH));
  };

  const spanWords = (span) => `${paceline.nameOf(picture, span.peer_id)}  ·  ${span.standing} in round ${span.round_id}`
    + `  ·  ${words.duration(span.end - span.begin)} from ${words.clock(span.begin)}`;

  const makeLane = () => el("div", { class: "lane" },
    el("span", { class: "who" }),
    svg("svg", { class: "spans", role: "img", viewBox: `0 0 ${WIDTH} 20`, preserveAspectRatio: "none", focusable: "false" }),
    el("span", { class: "busy" }));

  const makeSpan = () => {
    const rect = svg("rect");
    rect.addEventListener("pointerenter", () => text(byId("timeline-readout"), rect.words));
    rect.addEventListener("pointerleave", () => text(byId("timeline-readout"), ""));
    return rect;
  };

  const laneUpdate = (begin, end) => (node, lane) => {
    const scale = WIDTH / Math.max(end - begin, 0.001);
    const { seconds, total } = sums(lane.spans);
    text(node.firstChild, lane.peer.nickname);
    attr(node, "data-peer", lane.peer.peer_id);
    attr(node, "data-lost", lane.peer.standing === "lost");
    attr(node, "data-front", lane.peer.is_coordinator);
    text(node.lastChild, total ? words.percent((seconds.train || 0) / total) : words.DASH);
    attr(node.lastChild, "title", "share of its time that it trained");
    const drawing = node.children[1];
    const told = PHASES.filter((phase) => seconds[phase.name])
      .map((phase) => `${phase.says} ${words.percent(seconds[phase.name] / total)}`).join(", ");
    attr(drawing, "aria-label", `${lane.peer.nickname}: ${told || "nothing seen"}`);
    match(drawing, lane.spans, (span) => `${span.round_id} ${span.standing} ${span.begin}`, makeSpan, (rect, span) => {
      attr(rect, "class", `phase-${paceline.phase(span.standing)}`);
      // Waiting is drawn thin, so that waste shows without colours too.
      attr(rect, "y", span.standing === "wait" ? 7 : 0);
      attr(rect, "height", span.standing === "wait" ? 6 : 20);
      attr(rect, "x", ((span.begin - begin) * scale).toFixed(2));
      attr(rect, "width", Math.max((span.end - span.begin) * scale - 0.6, 0.8).toFixed(2));
      rect.words = spanWords(span);
    });
  };
  const ticks = (begin, end) => {
    const commits = paceline.committed(picture).filter((round) => round.committed_at > begin && round.committed_at <= end);
    const places = commits.map((round) => ({
      key: round.round_id, at: (round.committed_at - begin) / (end - begin), words: `round ${round.round_id}`,
    }));
    // A word needs room to its left; where there is none, the mark stands alone.
    const width = byId("ticks").clientWidth;
    let free = 0;
    match(byId("ticks"), places, (place) => place.key, () => el("span", {}, el("i"), el("span")), (node, place) => {
      const fits = place.at * width - free > TICK_PX;
      if (fits) free = place.at * width;
      node.style.left = `${place.at * 100}%`;
      text(node.lastChild, fits ? place.words : "");
    });
  };

  const draw = () => {
    if (!picture) return;
    const { lanes, begin, end, isEmpty } = lanesOf();
    legend(lanes);
    attr(byId("lanes"), "data-many", lanes.length > MANY);
    match(byId("lanes"), isEmpty ? [] : lanes, (lane) => lane.peer.peer_id, makeLane, laneUpdate(begin, end));
    ticks(begin, isEmpty ? begin : end);
  };

  paceline.timeline = {
    begin() {
      paceline.choose(byId("timeline-rounds"), [[1, "1 round"], [3, "3"], [5, "5"]], shown, (number) => {
        shown = number;
        draw();
      });
    },
    show(next) {
      picture = next;
      draw();
    },
  };
})();

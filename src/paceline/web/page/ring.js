// The ring of peers: who is at the front, who does what, and who exchanges with whom.
(() => {
  "use strict";
  const paceline = (window.paceline = window.paceline || {});
  const { byId, svg, text, attr, match, words } = paceline;
  const RADIUS = 108;
  const MOST_LABELS = 14;
  const MOST_CHORDS = 12;

  // The front is at the top; the others follow clockwise in the order of the table.
  const places = (picture) => {
    const peers = [...picture.peers];
    const front = peers.findIndex((peer) => peer.is_coordinator);
    const turned = front > 0 ? [...peers.slice(front), ...peers.slice(0, front)] : peers;
    return turned.map((peer, number) => {
      const angle = (2 * Math.PI * number) / turned.length;
      return { peer, angle, x: RADIUS * Math.sin(angle), y: -RADIUS * Math.cos(angle) };
    });
  };

  const nodeRadius = (many) => Math.max(5, Math.min(15, 300 / many));

  const makeNode = () => svg("g", { class: "node" },
    svg("circle", { class: "around" }), svg("circle", { class: "arc", pathLength: 1, transform: "rotate(-90)" }),
    svg("circle", { class: "core" }), svg("path", { class: "cross" }), svg("text", { class: "label" }), svg("title"));

  // A nickname takes two lines, one for each of its words.
  const lines = (label, nickname, x, y) => {
    const cut = nickname.indexOf("-") + 1;
    const both = cut > 0 ? [nickname.slice(0, cut), nickname.slice(cut)] : [nickname, ""];
    if (!label.firstChild) label.append(svg("tspan"), svg("tspan", { dy: "1.12em" }));
    both.forEach((line, number) => {
      text(label.childNodes[number], line);
      attr(label.childNodes[number], "x", x);
    });
    attr(label, "y", y);
  };

  const labelAt = (label, place, radius, nickname) => {
    const [sin, cos] = [Math.sin(place.angle), Math.cos(place.angle)];
    const isSide = Math.abs(sin) > 0.25;
    attr(label, "text-anchor", !isSide ? "middle" : sin > 0 ? "start" : "end");
    const x = isSide ? (sin > 0 ? radius + 8 : -radius - 8) : 0;
    const y = isSide ? -3 - 12 * cos : cos > 0 ? -radius - 21 : radius + 18;
    lines(label, nickname, x, y.toFixed(1));
  };

  const updateNode = (picture, many) => (node, place) => {
    const { peer } = place;
    const radius = nodeRadius(many);
    const [around, arc, core, cross, label, title] = node.children;
    const phase = paceline.phase(peer.standing);
    const share = peer.standing === "train" ? (peer.inner_step || 0) / (picture.inner_steps || 1) : 0;
    attr(node, "data-peer", peer.peer_id);
    attr(node, "data-standing", phase);
    attr(node, "data-front", peer.is_coordinator);
    attr(node, "data-mine", paceline.mine() === peer.peer_id);
    node.style.transform = `translate(${place.x.toFixed(1)}px, ${place.y.toFixed(1)}px)`;
    attr(around, "r", radius);
    attr(arc, "r", radius);
    attr(arc, "visibility", share > 0 ? null : "hidden");
    attr(arc, "stroke-dasharray", `${Math.min(1, share).toFixed(3)} 1`);
    attr(core, "r", radius * 0.62);
    attr(core, "class", `core phase-${phase}`);
    const reach = (radius * 0.4).toFixed(1);
    attr(cross, "d", phase === "lost" ? `M-${reach}-${reach}L${reach} ${reach}M${reach}-${reach}L-${reach} ${reach}` : null);
    const isNamed = many <= MOST_LABELS || peer.is_coordinator || phase === "lost" || paceline.mine() === peer.peer_id;
    labelAt(label, place, radius, isNamed ? peer.nickname : "");
    text(title, `${peer.nickname}: ${peer.standing}`);
  };

  const chords = (spots) => {
    const busy = spots.filter((spot) => spot.peer.standing === "reduce").slice(0, MOST_CHORDS);
    return busy.flatMap((one, number) => busy.slice(number + 1).map((other) => ({ one, other })));
  };

  const describe = (picture, front) => {
    const phases = {};
    for (const peer of picture.peers) phases[peer.standing] = (phases[peer.standing] || 0) + 1;
    const told = Object.entries(phases).map(([phase, many]) => `${many} ${phase}`).join(", ");
    const leads = front ? `${front.nickname} is at the front in term ${picture.term}` : "nobody is at the front";
    return `Ring of ${words.plural(picture.peers.length, "peer")}; ${leads}; ${told}`;
  };

  const parts = () => {
    const root = byId("ring");
    if (!root.firstChild) {
      root.append(
        svg("circle", { class: "road", r: RADIUS }), svg("g", { class: "chords" }), svg("g", { class: "nodes" }),
        svg("path", { class: "heading", d: "M-6-7 2 0-6 7" }),
        svg("text", { class: "centre-small", y: -26, "text-anchor": "middle" }),
        svg("text", { class: "centre", "text-anchor": "middle" }),
        svg("text", { class: "centre-small", y: 38, "text-anchor": "middle" }),
      );
    }
    return root.children;
  };

  paceline.ring = {
    show(picture) {
      const [road, exchange, nodes, heading, above, name, below] = parts();
      const spots = places(picture);
      const front = picture.peers.find((peer) => peer.is_coordinator);
      attr(road, "visibility", spots.length ? null : "hidden");
      attr(heading, "visibility", spots.length ? null : "hidden");
      // It points along the road, half-way to the next peer.
      const half = (180 / Math.max(3, spots.length)).toFixed(1);
      attr(heading, "transform", `rotate(${-half}) translate(0 ${-RADIUS})`);
      match(exchange, chords(spots), ({ one, other }) => `${one.peer.peer_id} ${other.peer.peer_id}`,
        () => svg("line"), (line, { one, other }) => {
          attr(line, "x1", one.x.toFixed(1));
          attr(line, "y1", one.y.toFixed(1));
          attr(line, "x2", other.x.toFixed(1));
          attr(line, "y2", other.y.toFixed(1));
        });
      match(nodes, spots, (spot) => spot.peer.peer_id, makeNode, updateNode(picture, spots.length));
      text(above, spots.length ? "at the front" : "");
      const leader = front ? front.nickname : "nobody";
      lines(name, spots.length ? leader : "nobody is here", 0, spots.length && front ? -5 : 6);
      text(below, spots.length ? `term ${words.count(picture.term)}` : "");
      attr(byId("ring"), "aria-label", describe(picture, front));
      const changes = picture.coordinator_changes;
      text(byId("ring-readout"), changes ? `the front changed ${changes === 1 ? "once" : `${words.count(changes)} times`}` : "");
    },
  };
})();

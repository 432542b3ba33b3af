// The peers as a table that can be sorted by every column, with the mouse or the keyboard.
(() => {
  "use strict";
  const paceline = (window.paceline = window.paceline || {});
  const { byId, el, text, attr, match, words } = paceline;
  const LATELY = 10;
  let picture = null;
  let elapsed = 0;
  let order = { by: "peer", down: false };

  const mineKey = () => `paceline.mine.${picture ? picture.run_id : ""}`;
  paceline.mine = () => (picture ? paceline.recall(mineKey()) : null);

  const seen = (peer) => (peer.seen_s === null ? null : peer.seen_s + elapsed);
  const speed = (peer) => (paceline.isGone(peer) || peer.standing === "finished" ? null : peer.tokens_per_s);
  const lately = () => paceline.committed(picture).slice(-LATELY);
  const took = (peer) => lately().filter((round) => round.members.includes(peer.peer_id)).length;
  const progress = (peer) => peer.round_id + (peer.inner_step || 0) / (picture.inner_steps || 1);
  const reach = (peer) => (peer.is_reachable === null ? 1 : peer.is_reachable ? 2 : 0);
  const phaseRank = (peer) => paceline.PHASES.findIndex((phase) => phase.name === peer.standing);

  // Each column: its heading, what it is sorted by, whether it begins with the largest, and how a cell is filled.
  const COLUMNS = [
    { key: "peer", says: "peer", value: (peer) => peer.nickname, fill: (cell, peer) => fillName(cell, peer) },
    { key: "phase", says: "phase", value: phaseRank, fill: (cell, peer) => {
      attr(cell.firstChild, "class", `pill phase-${paceline.phase(peer.standing)}`);
      text(cell.firstChild, peer.standing);
    } },
    { key: "progress", says: "progress", down: true, value: progress, fill: (cell, peer) => fillProgress(cell, peer) },
    { key: "speed", says: "tokens/s", down: true, isNumber: true, value: speed,
      fill: (cell, peer) => text(cell, words.count(speed(peer))) },
    { key: "loss", says: "loss", isNumber: true, value: (peer) => peer.loss, fill: (cell, peer) => text(cell, words.loss(peer.loss)) },
    { key: "seen", says: "seen", down: true, isNumber: true, value: seen, fill: (cell, peer) => {
      const since = seen(peer);
      text(cell, since === null ? words.DASH : `${words.duration(since)} ago`);
      attr(cell, "data-old", peer.standing !== "lost" && peer.standing !== "finished" && since !== null && since > picture.lease_s / 2);
    } },
    { key: "sent", says: "sent", down: true, isNumber: true, value: (peer) => peer.bytes_out,
      fill: (cell, peer) => text(cell, words.size(peer.bytes_out)) },
    { key: "received", says: "received", down: true, isNumber: true, value: (peer) => peer.bytes_in,
      fill: (cell, peer) => text(cell, words.size(peer.bytes_in)) },
    { key: "credits", says: "credits", down: true, isNumber: true, value: (peer) => peer.credits,
      fill: (cell, peer) => text(cell, words.count(peer.credits)) },
    { key: "lately", says: `last ${LATELY}`, down: true, value: took, fill: (cell, peer) => fillLately(cell, peer) },
    { key: "reach", says: "reachable", down: true, value: reach, fill: (cell, peer) => {
      text(cell, ["no", "not asked", "yes"][reach(peer)]);
      attr(cell, "data-reach", ["no", "unknown", "yes"][reach(peer)]);
      attr(cell, "title", peer.metrics_address ? `metrics at ${peer.metrics_address}` : "announces no metrics");
    } },
  ];

  const fillName = (cell, peer) => {
    if (!cell.firstChild.classList.contains("name")) cell.replaceChildren(...nameParts(peer));
    const [star, name] = cell.children;
    const isMine = paceline.mine() === peer.peer_id;
    attr(star, "aria-pressed", String(isMine));
    attr(star, "aria-label", `${peer.nickname} is my node`);
    text(star, isMine ? "★" : "☆");
    text(name.children[0], peer.nickname);
    text(name.children[1], words.short(peer.peer_id));
    attr(name.children[1], "title", peer.peer_id);
    attr(name.children[2], "hidden", !peer.is_coordinator);
  };
  const nameParts = (peer) => [
    el("button", { type: "button", class: "star", title: "my node", click: () => {
      paceline.remember(mineKey(), paceline.mine() === peer.peer_id ? null : peer.peer_id);
      document.dispatchEvent(new Event("paceline-redraw"));
    } }),
    el("span", { class: "name" }, el("b"), " ", el("code"), " ", el("span", { class: "jersey", text: "front" })),
  ];

  const fillProgress = (cell, peer) => {
    if (!cell.firstChild.classList.contains("meter")) {
      cell.replaceChildren(el("span", { class: "meter", "aria-hidden": "true" }, el("span")), el("span", { class: "steps" }));
    }
    const share = Math.min(1, (peer.inner_step || 0) / (picture.inner_steps || 1));
    cell.firstChild.firstChild.style.width = `${share * 100}%`;
    attr(cell.firstChild, "class", `meter phase-${paceline.phase(peer.standing)}`);
    cell.firstChild.hidden = peer.inner_step === null || peer.standing === "finished";
    const steps = peer.inner_step === null ? "" : `${words.count(peer.inner_step)} of ${words.count(picture.inner_steps)}`;
    const isBehind = peer.round_id !== Math.min(picture.rounds_committed + 1, picture.rounds_planned || Infinity);
    const isDone = peer.standing === "finished";
    text(cell.lastChild, isDone ? "" : isBehind || !steps ? `round ${words.count(peer.round_id)}` : steps);
    attr(cell, "title", steps ? `${steps} steps of round ${words.count(peer.round_id)}` : null);
  };

  const fillLately = (cell, peer) => {
    const rounds = lately();
    if (!cell.firstChild.classList.contains("strip")) {
      cell.replaceChildren(el("span", { class: "strip", "aria-hidden": "true" }), el("span", { class: "unseen" }));
    }
    const strip = cell.firstChild;
    while (strip.childNodes.length > rounds.length) strip.lastChild.remove();
    while (strip.childNodes.length < rounds.length) strip.append(el("i"));
    rounds.forEach((round, number) => attr(strip.childNodes[number], "data-in", round.members.includes(peer.peer_id)));
    const told = `in ${took(peer)} of the last ${words.plural(rounds.length, "round")}`;
    attr(cell, "title", told);
    text(cell.lastChild, told);
  };

  const makeRow = (peer) => {
    const mark = (peerId) => () => document.dispatchEvent(new CustomEvent("paceline-mark", { detail: peerId }));
    return el("tr", {
      role: "row", "data-peer": peer.peer_id,
      pointerenter: mark(peer.peer_id), pointerleave: mark(""), focusin: mark(peer.peer_id), focusout: mark(""),
    }, ...COLUMNS.map((column, number) => el(number ? "td" : "th", {
      role: number ? "cell" : "rowheader", ...(number ? {} : { scope: "row" }),
      "data-column": column.key, "data-says": column.says, class: column.isNumber ? "number" : null,
    }, ...(column.isNumber || column.key === "reach" ? [] : [el("span")]))));
  };

  const updateRow = (row, peer) => {
    attr(row, "data-standing", paceline.phase(peer.standing));
    attr(row, "data-front", peer.is_coordinator);
    attr(row, "data-mine", paceline.mine() === peer.peer_id);
    COLUMNS.forEach((column, number) => column.fill(row.children[number], peer));
  };

  // What is unknown comes last, whichever way the rest is sorted.
  const compare = (column, down) => (one, other) => {
    const [a, b] = [column.value(one), column.value(other)];
    if (a === null || b === null) return (a === null) - (b === null);
    const sign = a < b ? -1 : a > b ? 1 : 0;
    return (down ? -sign : sign) || (one.peer_id < other.peer_id ? -1 : 1);
  };

  const draw = () => {
    if (!picture) return;
    const column = COLUMNS.find((one) => one.key === order.by);
    const peers = [...picture.peers].sort(compare(column, order.down));
    // Moving a row takes the focus from the button in it.
    const focused = document.activeElement;
    match(byId("peers-body"), peers, (peer) => peer.peer_id, makeRow, updateRow);
    if (focused && focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
    for (const cell of byId("peers-head").children) {
      const isBy = cell.dataset.column === order.by;
      attr(cell, "aria-sort", isBy ? (order.down ? "descending" : "ascending") : "none");
    }
    byId("peers-none").hidden = peers.length > 0;
    byId("peers").hidden = peers.length === 0;
    const total = peers.reduce((sum, peer) => sum + peer.credits, 0);
    text(byId("peers-readout"), peers.length ? `${words.count(total)} credits  ·  ☆ marks your own node` : "");
  };

  paceline.peers = {
    begin() {
      for (const column of COLUMNS) {
        byId("peers-head").append(el("th", {
          role: "columnheader", scope: "col", "aria-sort": "none", "data-column": column.key, class: column.isNumber ? "number" : null,
        }, el("button", { type: "button", click: () => {
          order = { by: column.key, down: order.by === column.key ? !order.down : Boolean(column.down) };
          draw();
        } }, el("span", { text: column.says }), el("span", { class: "arrow", "aria-hidden": "true" }))));
      }
    },
    show(next, since) {
      picture = next;
      elapsed = since;
      draw();
    },
  };
})();

// The loss of every round: each peer's own thin line, their mean in bold, and the validation loss.
(() => {
  "use strict";
  const paceline = (window.paceline = window.paceline || {});
  const { byId, el, text, attr, match, words } = paceline;
  let chart = null;
  let drawnFor = "";
  let rounds = [];
  let ids = [];
  let picture = null;
  let chosen = null;
  let marked = "";
  let most = Infinity;

  const tokens = {};
  const token = (name) => tokens[name] || (tokens[name] = getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  const holder = () => byId("losses-plot");

  const readout = (round) => {
    if (!round) return "";
    const own = Object.values(round.losses);
    const parts = [`round ${words.count(round.round_id)}`, `mean ${words.loss(round.avg_loss)}`];
    if (round.val_loss !== null) parts.push(`validation ${words.loss(round.val_loss)}`);
    if (marked && marked in round.losses) {
      parts.push(`${paceline.nameOf(picture, marked)} ${words.loss(round.losses[marked])}`);
    } else if (own.length > 1) {
      parts.push(`peers ${words.loss(Math.min(...own))} to ${words.loss(Math.max(...own))}`);
    }
    return parts.join("  ·  ");
  };

  const tell = () => {
    const number = chosen === null ? rounds.length - 1 : Math.min(chosen, rounds.length - 1);
    const told = readout(rounds[number]);
    text(byId("losses-readout"), told);
    const plot = holder();
    attr(plot, "aria-valuemin", rounds.length ? rounds[0].round_id : 0);
    attr(plot, "aria-valuemax", rounds.length ? rounds[rounds.length - 1].round_id : 0);
    attr(plot, "aria-valuenow", rounds.length ? rounds[number].round_id : 0);
    attr(plot, "aria-valuetext", told || "no round yet");
  };

  const isMarked = (peerId) => peerId === marked || (!marked && peerId === paceline.mine());
  const peerStroke = (peerId) => token(isMarked(peerId) ? "--accent" : "--line-peer");
  const peerWidth = (peerId) => (isMarked(peerId) ? 2.5 : 1.25);

  const options = () => {
    const font = `12px ${token("--sans")}`;
    const axis = {
      stroke: token("--muted"), font, ticks: { show: false },
      grid: { stroke: token("--grid"), width: 1 },
    };
    const dots = { show: rounds.length < 3, size: 5 };
    return {
      width: Math.max(200, holder().clientWidth), height: Math.max(160, holder().clientHeight),
      legend: { show: false }, padding: [10, 12, 0, 0],
      scales: {
        x: { time: false, range: (_, low, high) => (low === high ? [low - 1, high + 1] : [low, high]) },
        y: { range: (_, low, high) => [low - (high - low) * 0.06 - 0.01, high + (high - low) * 0.06 + 0.01] },
      },
      cursor: { drag: { x: false, y: false }, y: false, points: { size: 7 } },
      axes: [
        { ...axis, size: 30, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000], grid: { show: false } },
        { ...axis, size: 46, values: (_, ticks) => ticks.map((tick) => String(Number(tick.toFixed(3)))) },
      ],
      series: [
        {},
        ...ids.map((peerId) => ({
          stroke: () => peerStroke(peerId), width: peerWidth(peerId), points: dots,
        })),
        { stroke: token("--mean"), width: 3, points: dots },
        { stroke: token("--val"), width: 2, dash: [7, 4], points: dots, spanGaps: true },
      ],
      hooks: { setCursor: [(plot) => {
        chosen = plot.cursor.idx === null || plot.cursor.left < 0 ? null : plot.cursor.idx;
        tell();
      }] },
    };
  };

  const data = () => [
    rounds.map((round) => round.round_id),
    ...ids.map((peerId) => rounds.map((round) => (peerId in round.losses ? round.losses[peerId] : null))),
    rounds.map((round) => round.avg_loss),
    rounds.map((round) => round.val_loss),
  ];

  const draw = () => {
    const key = [paceline.theme(), Math.min(rounds.length, 3), ...ids].join();
    if (chart && key === drawnFor) {
      ids.forEach((peerId, number) => { chart.series[number + 1].width = peerWidth(peerId); });
      chart.setData(data());
      return;
    }
    if (chart) chart.destroy();
    chart = null;
    byId("losses-none").hidden = rounds.length > 0;
    holder().hidden = rounds.length === 0;
    byId("losses-numbers").hidden = rounds.length === 0;
    if (!rounds.length) return;
    drawnFor = key;
    chart = new window.uPlot(options(), data(), holder());
    attr(chart.root, "aria-hidden", "true");
  };

  const cells = () => Array.from({ length: 6 }, (_, number) => el(number ? "td" : "th", number ? {} : { scope: "row" }));
  const table = () => {
    const details = byId("losses-numbers");
    if (!details.open) return;
    const body = details.querySelector("tbody");
    match(body, [...rounds].reverse(), (round) => round.round_id, () => el("tr", {}, ...cells()), (row, round) => {
      const own = Object.values(round.losses);
      [words.count(round.round_id), words.loss(round.avg_loss), words.loss(round.val_loss),
        own.length ? words.loss(Math.min(...own)) : words.DASH, own.length ? words.loss(Math.max(...own)) : words.DASH,
        words.count(round.members.length)].forEach((value, number) => text(row.cells[number], value));
    });
  };

  const move = (event) => {
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -1e9, End: 1e9 };
    if (!chart || !rounds.length || !(event.key in steps)) return;
    event.preventDefault();
    const from = chosen === null ? rounds.length - 1 : chosen;
    const next = Math.max(0, Math.min(rounds.length - 1, from + steps[event.key]));
    chart.setCursor({ left: chart.valToPos(rounds[next].round_id, "x"), top: 10 });
    chosen = next;
    tell();
  };

  paceline.losses = {
    begin() {
      new ResizeObserver(() => {
        if (chart) chart.setSize({ width: Math.max(200, holder().clientWidth), height: Math.max(160, holder().clientHeight) });
      }).observe(holder());
      paceline.choose(byId("losses-rounds"), [[Infinity, "all rounds"], [50, "50"], [10, "10"]], most, (number) => {
        most = number;
        chosen = null;
        if (picture) paceline.losses.show(picture);
      });
      holder().addEventListener("keydown", move);
      byId("losses-numbers").addEventListener("toggle", table);
      document.addEventListener("paceline-theme", () => {
        Object.keys(tokens).forEach((name) => delete tokens[name]);
        if (picture) draw();
      });
      // A row of the table that is pointed at, or focused, is shown as a line.
      document.addEventListener("paceline-mark", (event) => {
        marked = event.detail;
        if (picture) { draw(); tell(); }
      });
    },
    show(shown) {
      picture = shown;
      rounds = paceline.committed(shown).slice(-most);
      ids = [...new Set(rounds.flatMap((round) => Object.keys(round.losses)))].sort();
      draw();
      tell();
      table();
    },
  };
})();

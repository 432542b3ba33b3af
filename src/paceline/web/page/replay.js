// A slider over what is over: over time for a run that is served, over rounds for a saved report.
(() => {
  "use strict";
  const paceline = (window.paceline = window.paceline || {});
  const { byId, el, svg, text, attr, match, words } = paceline;
  const BEAT_MS = 200;
  const SHAPES = { play: "M6 3.5v13l10.5-6.5z", pause: "M5 3.5h3.6v13H5zM11.4 3.5H15v13h-3.6z" };
  let timer = 0;
  let go = () => {};
  let perSecond = 1;
  let position = 0; // finer than the slider, whose steps may be whole rounds

  const slider = () => byId("slider");

  const setPlaying = (isPlaying) => {
    window.clearInterval(timer);
    timer = isPlaying ? window.setInterval(beat, BEAT_MS) : 0;
    attr(byId("play-shape"), "d", isPlaying ? SHAPES.pause : SHAPES.play);
    attr(byId("play"), "aria-label", isPlaying ? "Pause" : "Play");
  };

  const beat = () => {
    const end = Number(slider().max);
    position = Math.min(end, position + (perSecond * BEAT_MS) / 1000);
    slider().value = position;
    go(position);
    if (position >= end) setPlaying(false);
  };

  const begin = ({ low, high, step, at, speeds, name }) => {
    Object.assign(slider(), { min: low, max: high, step });
    slider().value = at;
    attr(slider(), "aria-label", name);
    byId("speed").replaceChildren(...speeds.map(([value, says]) => el("option", { value, text: says })));
    perSecond = speeds[0][0];
    byId("replay").hidden = false;
    byId("speed").addEventListener("change", (event) => { perSecond = Number(event.target.value); });
    position = at;
    slider().addEventListener("input", () => {
      position = Number(slider().value);
      go(position);
    });
    byId("play").addEventListener("click", () => {
      if (!timer && position >= high) position = low;
      setPlaying(!timer);
    });
  };

  const mark = (places) => {
    attr(byId("marks"), "viewBox", "0 0 1000 10");
    attr(byId("marks"), "preserveAspectRatio", "none");
    match(byId("marks"), places, (place) => place.key, () => svg("rect", { width: 2, y: 0, height: 10 }), (rect, place) => {
      attr(rect, "x", (place.share * 998).toFixed(1));
      attr(rect, "class", place.isVoid ? "void" : null);
    });
  };

  const tellMoment = (picture) => {
    const when = `${words.clock(picture.at)}, ${words.day(picture.at)}`;
    const round = `round ${words.count(picture.rounds_committed)} of ${words.count(picture.rounds_planned)}`;
    text(byId("moment"), `${words.clock(picture.at)} · ${round}`);
    attr(slider(), "aria-valuetext", `${when}, ${round} committed`);
  };

  // Of many moments asked for while one is on its way, only the last is fetched.
  const latestOnly = (fetchOne, take) => {
    let isBusy = false;
    let wanted = null;
    const next = async (at) => {
      if (isBusy) {
        wanted = at;
        return;
      }
      isBusy = true;
      try {
        take(await fetchOne(at));
      } catch (error) {
        text(byId("moment"), `no answer: ${error.message || error}`);
      }
      isBusy = false;
      if (wanted !== null) {
        const later = wanted;
        wanted = null;
        next(later);
      }
    };
    return next;
  };

  const speedsFor = (length) => {
    const whole = Math.max(1, length / 60);
    const rates = [whole, 1, 5, 20, 100, 500].filter((rate, number) => !number || rate <= length / 5);
    return rates.map((rate, number) => [rate, number ? `${rate} ×` : "all in 1 min"]);
  };

  paceline.replay = {
    take: () => {},
    overTime(last, span, fetchAt) {
      const length = Math.max(0.001, span.end - span.begin);
      go = latestOnly((at) => fetchAt(span.begin + at), (picture) => {
        tellMoment(picture);
        paceline.replay.take(picture);
      });
      begin({ low: 0, high: length, step: length / 2000, at: length, speeds: speedsFor(length), name: "Moment of the run" });
      const inside = paceline.committed(last).filter((round) => round.committed_at >= span.begin && round.committed_at <= span.end);
      mark(inside.map((round) => ({
        key: round.round_id, share: (round.committed_at - span.begin) / length, isVoid: round.voids.length > 0,
      })));
      tellMoment(last);
    },
    overRounds(whole) {
      const rounds = paceline.committed(whole);
      tellMoment(whole);
      if (rounds.length < 2) return;
      const [low, high] = [rounds[0].round_id, rounds[rounds.length - 1].round_id];
      go = (value) => {
        const picture = paceline.pictureAtRound(whole, Math.floor(value));
        tellMoment(picture);
        paceline.replay.take(picture);
      };
      const speeds = [[2, "2 rounds/s"], [5, "5 rounds/s"], [20, "20 rounds/s"]];
      begin({ low, high, step: 1, at: high, speeds, name: "Round of the run" });
      mark(rounds.map((round) => ({
        key: round.round_id, share: (round.round_id - low) / (high - low), isVoid: round.voids.length > 0,
      })));
    },
  };
})();

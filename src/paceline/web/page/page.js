// Puts the page together: takes pictures as they come, and draws them at most once per frame.
(() => {
  "use strict";
  const paceline = (window.paceline = window.paceline || {});
  const { byId, text, attr } = paceline;
  let picture = null;
  let received = 0;
  let link = "connecting";
  let isAsked = false;

  const byName = (one, other) =>
    (one.nickname < other.nickname ? -1 : one.nickname > other.nickname ? 1 : one.peer_id < other.peer_id ? -1 : 1);

  // Seconds since the picture; the clock stands still for what is over, and for what is no longer heard of.
  const elapsed = () => (picture.is_live && link === "live" ? (performance.now() - received) / 1000 : 0);

  const draw = () => {
    isAsked = false;
    if (!picture) return;
    const since = elapsed();
    const now = picture.at + since;
    const isCut = link === "cut" || link === "trying";
    paceline.peers.show(picture, since);
    paceline.head.show(picture, now, isCut);
    paceline.losses.show(picture);
    paceline.timeline.show(picture);
    paceline.ring.show(picture);
    paceline.traffic.show(picture);
    paceline.chain.show(picture, now);
  };

  const askToDraw = () => {
    if (!isAsked) window.requestAnimationFrame(draw);
    isAsked = true;
  };

  const take = (next) => {
    picture = { ...next, peers: [...next.peers].sort(byName) };
    received = performance.now();
    askToDraw();
  };

  const LINKS = {
    connecting: () => "connecting",
    live: () => "live",
    trying: () => "connecting again",
    cut: (why) => `cut off: ${why}`,
    failed: (why) => `no picture: ${why}`,
    replay: () => "replay of a finished run",
    report: () => "saved report",
  };

  const tell = (state, more) => {
    link = state;
    attr(byId("link"), "data-state", state);
    text(byId("link-words"), LINKS[state](more));
    attr(document.body, "data-stale", state === "cut" || state === "trying");
    askToDraw();
  };

  const nameTheme = () => attr(byId("theme"), "aria-label", `Switch to the ${paceline.theme() === "dark" ? "light" : "dark"} theme`);

  byId("theme").addEventListener("click", paceline.switchTheme);
  document.addEventListener("paceline-theme", nameTheme);
  document.addEventListener("paceline-redraw", askToDraw);
  nameTheme();
  paceline.losses.begin();
  paceline.timeline.begin();
  paceline.peers.begin();
  paceline.replay.take = take;
  // Ages grow between pictures.
  window.setInterval(() => { if (picture && picture.is_live && link === "live") askToDraw(); }, 1000);
  paceline.beginSource({ take, tell, replay: paceline.replay });
})();

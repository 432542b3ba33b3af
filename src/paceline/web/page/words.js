// How numbers, times and names are spelled: the same way as at the terminal.
(() => {
  "use strict";
  const paceline = (window.paceline = window.paceline || {});
  const DASH = "–";
  const missing = (value) => value === null || value === undefined || Number.isNaN(value);
  const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

  const count = (value) => {
    if (missing(value)) return DASH;
    if (value >= 1e9) return `${(value / 1e9).toFixed(1)} G`;
    if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
    return grouped.format(value);
  };

  const size = (bytes) => {
    if (missing(bytes)) return DASH;
    let rest = bytes;
    for (const unit of ["B", "kB", "MB", "GB", "TB"]) {
      if (rest < 999.5) return `${rest < 100 ? Number(rest.toPrecision(3)) : Math.round(rest)} ${unit}`;
      rest /= 1000;
    }
    return `${grouped.format(rest)} PB`;
  };

  const duration = (seconds) => {
    if (missing(seconds)) return DASH;
    const whole = Math.max(0, seconds);
    if (whole < 9.95) return `${whole.toFixed(1)} s`;
    if (whole < 180) return `${Math.round(whole)} s`;
    const minutes = Math.round(whole / 60);
    if (minutes < 60) return `${minutes} min`;
    const hours = Math.floor(minutes / 60);
    if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
    return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  };

  const clock = (moment, withSeconds = true) => {
    if (missing(moment)) return DASH;
    const date = new Date(moment * 1000);
    const time = { hour: "2-digit", minute: "2-digit", ...(withSeconds ? { second: "2-digit" } : {}) };
    return date.toLocaleTimeString("en-GB", time);
  };
  // With the day, for what is long ago.
  const day = (moment) =>
    new Date(moment * 1000).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });

  const percent = (share) => {
    if (missing(share)) return DASH;
    const points = share * 100;
    return `${points > 0 && points < 9.95 ? points.toFixed(1) : Math.round(points)} %`;
  };

  paceline.words = {
    DASH,
    count,
    size,
    duration,
    clock,
    day,
    percent,
    loss: (value) => (missing(value) ? DASH : value.toFixed(3)),
    plural: (number, one, many = `${one}s`) => `${grouped.format(number)} ${number === 1 ? one : many}`,
    short: (peerId) => String(peerId).slice(-6),
    digest: (value) => (value ? String(value).slice(0, 10) : DASH),
    list: (names) =>
      names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`,
    times: (ratio) => {
      if (ratio >= 100) return `${grouped.format(ratio)} times`;
      return `${ratio >= 10 ? Math.round(ratio) : ratio.toFixed(1)} times`;
    },
  };

  // The phases in the order in which a round passes through them. Words that the page doesn't know are not shown:
  // a newer monitor may know more of them than this page.
  paceline.PHASES = [
    { name: "train", says: "train" },
    { name: "wait", says: "wait for the plan" },
    { name: "reduce", says: "reduce" },
    { name: "attest", says: "attest" },
    { name: "apply", says: "commit and apply" },
    { name: "repair", says: "repair" },
    { name: "leave", says: "leave" },
    { name: "lost", says: "lost" },
    { name: "finished", says: "finished" },
  ];
  const known = new Set(paceline.PHASES.map((phase) => phase.name));
  paceline.phase = (standing) => (known.has(standing) ? standing : "other");

  paceline.nameOf = (picture, peerId) => {
    const peer = picture.peers.find((one) => one.peer_id === peerId);
    return peer && peer.nickname ? peer.nickname : paceline.words.short(peerId);
  };
  paceline.isGone = (peer) => peer.standing === "lost" || peer.standing === "leave";
})();

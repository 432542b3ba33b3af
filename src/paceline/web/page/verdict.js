// What a person wants to know first: does the swarm learn, and if not, what is to be done. Pure functions.
(() => {
  "use strict";
  const paceline = (window.paceline = window.paceline || {});
  const { words } = paceline;
  const LOOK_BACK = 5;
  const UNCHANGED = 0.001;
  const BAD = 0.05;
  const MUCH_WAITING = 0.05;
  const UNKNOWN_ROUND = 60;
  const MOST = 1e12;

  const committed = (picture) => picture.rounds.filter((round) => round.committed_at !== null);
  const here = (picture) => picture.peers.filter((peer) => !paceline.isGone(peer));
  const lost = (picture) => picture.peers.filter((peer) => peer.standing === "lost");

  const median = (numbers) => {
    const sorted = [...numbers].sort((a, b) => a - b);
    const middle = sorted.length >> 1;
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  };

  // The rule of `watch/stall.py`, worked out between two pictures too: how long a round takes,
  // and for how long a commit has been waited for.
  const typicalRound = (picture) => {
    const done = committed(picture).slice(-11);
    const gaps = done.slice(1)
      .map((round, number) => [done[number], round])
      .filter(([before, after]) => after.round_id === before.round_id + 1)
      .map(([before, after]) => after.committed_at - before.committed_at)
      .filter((gap) => gap > 0.01);
    if (gaps.length) return median(gaps);
    const expected = here(picture)
      .filter((peer) => peer.standing !== "finished" && peer.is_member && peer.inner_step > 0 && peer.samples_per_s > 0)
      .map((peer) => (picture.inner_steps * peer.samples) / peer.inner_step / peer.samples_per_s)
      .filter((seconds) => seconds > 0 && seconds < MOST);
    return expected.length ? median(expected) : null;
  };

  const waited = (picture, now) => {
    const since = picture.last_commit_at === null ? picture.ready_since : picture.last_commit_at;
    return since === null || since === undefined ? 0 : now - since;
  };

  const stalledAfter = (picture) => Math.max(3 * (typicalRound(picture) || UNKNOWN_ROUND), 2 * picture.lease_s);

  // How the loss went lately: validation where it is measured, training otherwise.
  const trend = (picture) => {
    const rounds = committed(picture);
    const last = rounds[rounds.length - 1];
    if (!last) return null;
    const kind = last.val_loss === null ? "avg_loss" : "val_loss";
    const measured = rounds.filter((round) => round[kind] !== null).slice(-LOOK_BACK - 1);
    if (!measured.length) return null;
    const first = measured[0];
    const end = measured[measured.length - 1];
    return {
      name: kind === "val_loss" ? "validation loss" : "training loss",
      value: end[kind],
      change: measured.length > 1 && first[kind] > 0 ? end[kind] / first[kind] - 1 : null,
      rounds: end.round_id - first.round_id,
    };
  };

  const names = (picture, peers) => words.list(peers.slice(0, 3).map((peer) => paceline.nameOf(picture, peer.peer_id)))
    + (peers.length > 3 ? ` and ${peers.length - 3} more` : "");

  const slowest = (picture) => {
    const training = here(picture).filter((peer) => peer.standing === "train");
    return training.sort((a, b) => a.round_id - b.round_id || a.inner_step - b.inner_step)[0];
  };

  const nobody = (picture) => {
    const advice = "Either all peers are down, or this monitor is cut off from them: try paceline doctor.";
    if (!picture.peers.length) {
      const isEarly = picture.begin === null || picture.at - picture.begin < picture.lease_s;
      if (isEarly) return { kind: "looking", tone: "calm", word: "Looking for peers", detail: "none is heard yet", advice: "" };
      return { kind: "silent", tone: "bad", word: "Nobody is heard", detail: `since ${words.clock(picture.begin, false)}`, advice };
    }
    const heard = picture.at - Math.min(...picture.peers.map((peer) => peer.seen_s));
    const since = words.clock(picture.heard_at || heard, false);
    return { kind: "silent", tone: "bad", word: "Nobody is heard", detail: `since ${since}`, advice };
  };

  // What a person would look for in the lanes: how much of the time is waste, and whom the others wait for.
  const wasteWords = (picture) => {
    const seconds = {};
    const waits = {};
    let total = 0;
    for (const { peer_id, standing, begin, end } of picture.spans) {
      if (standing === "lost") continue;
      seconds[standing] = (seconds[standing] || 0) + end - begin;
      waits[peer_id] = (waits[peer_id] || 0) + (standing === "wait" ? end - begin : 0);
      total += end - begin;
    }
    if (total <= 0 || !seconds.train) return "";
    const told = `${words.percent(seconds.train / total)} of the peers' time is training`;
    const share = (seconds.wait || 0) / total;
    const order = here(picture).filter((peer) => peer.peer_id in waits).sort((a, b) => waits[a.peer_id] - waits[b.peer_id]);
    if (share < MUCH_WAITING || order.length < 2) return `${told}.`;
    // When somebody was lost, the others waited for that one too.
    const whom = lost(picture).length ? "" : `, mostly for ${paceline.nameOf(picture, order[0].peer_id)}`;
    return `${told}, ${words.percent(share)} waiting${whom}.`;
  };

  const lostWords = (picture) => {
    const gone = lost(picture);
    if (!gone.length) return "";
    const silent = gone.length === 1 && gone[0].seen_s !== null ? `, silent for ${words.duration(gone[0].seen_s)}` : "";
    return `Lost: ${names(picture, gone)}${silent}.`;
  };

  const stalledAdvice = (picture) => {
    const working = picture.rounds.find((round) => round.committed_at === null);
    const voided = working && working.voids.length ? working.voids[working.voids.length - 1] : null;
    const slow = slowest(picture);
    const parts = [lostWords(picture)];
    if (voided) parts.push(`The last attempt was given up: ${voided.cause}.`);
    if (slow) {
      const at = `${slow.inner_step} of ${picture.inner_steps} steps`;
      parts.push(`Furthest behind: ${paceline.nameOf(picture, slow.peer_id)}, at ${at} of round ${slow.round_id}.`);
    }
    return parts.filter(Boolean).join(" ");
  };

  const learning = (picture) => {
    const loss = trend(picture);
    const gone = lostWords(picture);
    const advice = [gone, gone && "The others go on.", wasteWords(picture)].filter(Boolean).join(" ");
    if (!loss) {
      const first = here(picture);
      const done = first.reduce((sum, peer) => sum + peer.inner_step, 0) / ((first.length || 1) * picture.inner_steps || 1);
      const soFar = [gone, gone && "The others go on."].filter(Boolean).join(" ");
      const detail = `${words.plural(first.length, "peer")}, ${words.percent(Math.min(1, done))} of the steps done`;
      return { kind: "first", tone: "calm", word: "On the first round", detail, advice: soFar };
    }
    const value = `${loss.name} ${words.loss(loss.value)}`;
    const over = `over ${words.plural(loss.rounds, "round")}`;
    if (loss.change === null) {
      return { kind: "begun", tone: "good", word: "Begun", detail: `${value} after the first measured round`, advice };
    }
    const amount = words.percent(Math.abs(loss.change));
    if (loss.change < -UNCHANGED) {
      return { kind: "learning", tone: "good", word: "Learning", detail: `${value}, down ${amount} ${over}`, advice };
    }
    if (loss.change <= UNCHANGED) {
      return { kind: "level", tone: "calm", word: "Level", detail: `${value}, unchanged ${over}`, advice };
    }
    const tone = loss.change > BAD ? "bad" : "watch";
    const more = "A round or two of this is chance; more is a learning rate too high or bad data.";
    const said = [advice, more].filter(Boolean).join(" ");
    return { kind: "worse", tone, word: "Not learning", detail: `${value}, up ${amount} ${over}`, advice: said };
  };

  const isOver = (picture) => picture.rounds_planned > 0 && picture.rounds_committed >= picture.rounds_planned;

  // Say how the swarm is: { kind, tone: good | calm | watch | bad | over, word, detail, advice }.
  paceline.verdict = (picture, now) => {
    if (isOver(picture)) {
      const loss = trend(picture);
      const rounds = committed(picture);
      const isWhole = rounds.length > 1 && rounds[0].round_id === 1;
      const advice = isWhole ? `${words.duration(picture.last_commit_at - rounds[0].committed_at)} from the first commit to the last.` : "";
      const detail = `all ${words.plural(picture.rounds_committed, "round")}${loss ? `, ${loss.name} ${words.loss(loss.value)}` : ""}`;
      return { kind: "finished", tone: "over", word: "Finished", detail, advice };
    }
    if (picture.blind_since) {
      const advice = "It connects again by itself; what is shown is what it saw last.";
      const detail = `it is cut off from the network itself, since ${words.clock(picture.blind_since, false)}`;
      return { kind: "blind", tone: "watch", word: "The monitor is blind", detail, advice };
    }
    if (!here(picture).length) return nobody(picture);
    if (picture.quorum_needed > 0 && picture.quorum_here < picture.quorum_needed) {
      const missing = picture.quorum_needed - picture.quorum_here;
      const detail = `a commit needs ${picture.quorum_needed} of the last members, ${picture.quorum_here} ${picture.quorum_here === 1 ? "is" : "are"} here`;
      const advice = `${lostWords(picture)} Start ${missing} of them again; the round waits for them and nothing is lost.`.trim();
      return { kind: "quorum", tone: "bad", word: "Cannot commit", detail, advice };
    }
    if (waited(picture, now) > stalledAfter(picture)) {
      const typical = typicalRound(picture);
      const takes = typical ? `, a round takes ${words.duration(typical)}` : "";
      const detail = `no commit for ${words.duration(waited(picture, now))}${takes}`;
      return { kind: "stalled", tone: "bad", word: "Stalled", detail, advice: stalledAdvice(picture) };
    }
    return learning(picture);
  };

  Object.assign(paceline, { committed, typicalRound, here, lost, isOver });
})();

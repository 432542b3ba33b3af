// The head of the page: run, verdict, and the few numbers that matter.
(() => {
  "use strict";
  const paceline = (window.paceline = window.paceline || {});
  const { byId, el, text, attr, match, words } = paceline;
  let said = "";

  const roundStat = (picture) => {
    const total = picture.rounds_planned;
    const isOver = paceline.isOver(picture);
    const number = isOver ? total : picture.rounds_committed + 1;
    return {
      key: "round", name: "round", value: words.count(number), unit: total ? `of ${words.count(total)}` : "",
      share: total ? picture.rounds_committed / total : 0,
      note: "",
    };
  };

  const lossStat = (picture) => {
    const rounds = paceline.committed(picture);
    const last = rounds[rounds.length - 1];
    const hasVal = last && last.val_loss !== null;
    const note = hasVal ? `training ${words.loss(last.avg_loss)}` : last ? "not measured on held-out data" : "no round is committed yet";
    return {
      key: "loss", name: hasVal || !last ? "validation loss" : "training loss",
      value: words.loss(last ? (hasVal ? last.val_loss : last.avg_loss) : null), unit: last ? "nats/token" : "",
      note,
    };
  };

  const speedStat = (picture) => {
    const here = paceline.here(picture);
    const isOver = paceline.isOver(picture);
    const isKnown = !isOver && here.some((peer) => peer.tokens_per_s !== null);
    const counted = here.filter((peer) => peer.is_member); // a stranger's speed is only what it says
    const speed = counted.reduce((sum, peer) => sum + (peer.tokens_per_s || 0), 0);
    const samples = counted.reduce((sum, peer) => sum + (peer.samples_per_s || 0), 0);
    return {
      key: "speed", name: "speed", value: words.count(isKnown ? speed : null), unit: "tokens/s",
      note: isKnown ? `${samples < 10 ? samples.toFixed(1) : words.count(samples)} sequences/s`
        : isOver ? "nobody trains any more" : here.length ? "not noted for this moment" : "nobody trains",
    };
  };

  const peerStat = (picture) => {
    const here = paceline.here(picture).length;
    const lost = paceline.lost(picture).length;
    const quorum = picture.quorum_needed && !paceline.isOver(picture) ? `${picture.quorum_here} of the last members, ${picture.quorum_needed} needed` : "";
    return {
      key: "peers", name: here === 1 ? "peer here" : "peers here", value: words.count(here),
      unit: lost ? `${lost} lost` : "", isBad: lost > 0, note: quorum,
    };
  };

  const commitStat = (picture, now) => {
    const typical = paceline.typicalRound(picture);
    const isOver = paceline.isOver(picture);
    return {
      key: "commit", name: "last commit",
      value: picture.last_commit_at === null ? words.DASH
        : isOver ? words.clock(picture.last_commit_at) : words.duration(now - picture.last_commit_at),
      unit: picture.last_commit_at === null ? "" : isOver ? words.day(picture.last_commit_at) : "ago",
      note: typical ? `a round takes ${words.duration(typical)}` : "",
    };
  };

  const mineStat = (picture) => {
    const mine = picture.peers.find((peer) => peer.peer_id === paceline.mine());
    if (!mine) return [];
    const recent = paceline.committed(picture).slice(-10);
    const took = recent.filter((round) => round.members.includes(mine.peer_id)).length;
    return [{
      key: "mine", name: "my node", value: words.count(mine.credits), unit: "credits",
      isBad: mine.standing === "lost", isMine: true,
      note: `${mine.nickname} · ${mine.standing} · in ${took} of the last ${words.plural(recent.length, "round")}`,
    }];
  };

  const make = (stat) => el("div", { class: "stat", "data-stat": stat.key },
    el("dt"), el("dd", { class: "value" }, el("span", { class: "number" }), " ", el("span", { class: "unit" })),
    el("dd", { class: "note" }));

  const update = (node, stat) => {
    text(node.querySelector("dt"), stat.name);
    text(node.querySelector(".number"), stat.value);
    text(node.querySelector(".unit"), stat.unit);
    attr(node, "data-bad", stat.isBad);
    attr(node, "data-mine", stat.isMine);
    const note = node.querySelector(".note");
    text(note, stat.note);
    if (stat.share !== undefined) {
      const bar = note.querySelector(".bar-thin") || el("span", { class: "bar-thin" }, el("span"));
      if (!bar.parentNode) note.append(bar);
      bar.firstChild.style.width = `${Math.min(1, stat.share) * 100}%`;
    }
  };

  // Tell a screen reader when the verdict turns or somebody is lost, not at every number that moves.
  const say = (picture, verdict) => {
    const lost = paceline.lost(picture).map((peer) => peer.peer_id).sort().join();
    const key = `${verdict.kind} ${lost}`;
    if (key === said) return;
    said = key;
    const joint = verdict.detail.startsWith("since ") ? "" : ":";
    text(byId("said"), `${verdict.word}${joint} ${verdict.detail}. ${verdict.advice}`);
  };

  const cut = (picture) => ({
    kind: "cut", tone: "watch", word: "No word from the monitor", detail: `since ${words.clock(picture.at)}`,
    advice: "What is shown is what was known then. The page tries again by itself.",
  });

  paceline.head = {
    show(picture, now, isCut) {
      const verdict = isCut ? cut(picture) : paceline.verdict(picture, now);
      document.body.dataset.tone = verdict.tone;
      text(byId("run"), picture.run_id);
      text(byId("verdict-word"), verdict.word);
      attr(byId("verdict-word"), "data-runs-on", verdict.detail.startsWith("since "));
      text(byId("verdict-detail"), verdict.detail);
      text(byId("advice"), verdict.advice);
      const stats = [roundStat(picture), lossStat(picture), commitStat(picture, now), peerStat(picture), speedStat(picture),
        ...mineStat(picture)];
      match(byId("stats"), stats, (stat) => stat.key, make, update);
      say(picture, verdict);
      const round = stats[0];
      document.title = `${round.value}${round.unit ? `/${words.count(picture.rounds_planned)}` : ""} ${verdict.word.toLowerCase()} · ${picture.run_id}`;
    },
  };
})();

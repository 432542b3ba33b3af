// An earlier moment of a run, worked out from one picture that knows all of it: what a saved report replays.
(() => {
  "use strict";
  const paceline = (window.paceline = window.paceline || {});

  const samplesOf = (round, peerId) => {
    const place = round.members.indexOf(peerId);
    return place < 0 ? 0 : round.samples[place] || 0;
  };

  const peerAt = (peer, picture, spans, later, roundId, at) => {
    const own = spans.filter((span) => span.peer_id === peer.peer_id);
    const last = own[own.length - 1];
    const known = picture.rounds.filter((round) => round.round_id <= roundId);
    const took = known.filter((round) => peer.peer_id in round.losses);
    if (!last && !known.some((round) => round.members.includes(peer.peer_id))) return null;
    return {
      ...peer,
      standing: last ? last.standing : "apply",
      is_coordinator: false,
      round_id: last ? last.round_id : roundId,
      inner_step: null,
      samples_per_s: null,
      tokens_per_s: null,
      loss: took.length ? took[took.length - 1].losses[peer.peer_id] : null,
      bytes_in: null,
      bytes_out: null,
      // The lane of a lost peer turns when it was last heard.
      seen_s: last && last.standing === "lost" ? at - last.begin : null,
      credits: peer.credits - later.reduce((sum, round) => sum + samplesOf(round, peer.peer_id), 0),
    };
  };

  // The picture as it was when a round had just been committed. What nobody noted is null.
  paceline.pictureAtRound = (picture, roundId) => {
    const rounds = picture.rounds.filter((round) => round.round_id <= roundId && round.committed_at !== null);
    const last = rounds[rounds.length - 1];
    if (!last || roundId >= picture.rounds_committed) return picture;
    const at = last.committed_at;
    const later = picture.rounds.filter((round) => round.round_id > roundId && round.committed_at !== null);
    const spans = picture.spans
      .filter((span) => span.begin <= at)
      .map((span) => ({ ...span, end: Math.min(span.end, at) }));
    const peers = picture.peers
      .map((peer) => peerAt(peer, picture, spans, later, roundId, at))
      .filter((peer) => peer !== null)
      .map((peer) => ({ ...peer, is_coordinator: peer.peer_id === last.author }));
    return {
      ...picture,
      at,
      peers,
      rounds,
      spans,
      rounds_committed: last.round_id,
      last_commit_at: at,
      coordinator: last.author,
      term: last.term,
      attempts_voided: rounds.reduce((sum, round) => sum + round.voids.length, 0),
      quorum_needed: 0,
      is_past: true,
    };
  };
})();

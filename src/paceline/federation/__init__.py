"""Federated training as a plain API: nodes report updates, a coordinator averages and distributes.

The types are the swarm's types, the mean is the swarm's aggregator, the credits are the swarm's fold. All
public names are importable from `paceline` itself.

    coordinator.py   DiLoCoCoordinator: the rounds
    provider.py      UpdateProvider: where updates come from
    averaging.py     GradientAverager
    hashing.py       HashVerifier
    credits.py       CreditTracker
    models.py        FederatedNode, TrainingConfig, LocalUpdate, GlobalState, TrainingResult
    local.py         LocalTrainingProvider: real training in this process
    swarm.py         SwarmUpdateProvider: real training by live peers
    synthetic.py     SyntheticProvider: what `paceline run` trains with
    session.py       Session: rounds that stay, in a run log like a peer's
"""

"""Everything that knows what a tensor means: model, data, inner and outer optimization, codecs, checkpoints.

The rest of paceline sees a model as one flat vector: all parameters in float32, ordered by parameter name,
each flattened in C order. `flat` is the border between the two views. Nothing here opens a socket, and
nothing here is imported by the network.

Key parts: `model.build_model`, `flat.FlatView`, `data.open_corpus`, `inner.InnerTrainer`, `outer.OuterState`,
`codecs.make_codec`, `checkpoint.save` and `load`, `sample.sample`.
"""

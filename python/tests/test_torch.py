"""The network in PyTorch predicts the same as the model file in Rust."""

import numpy
import pytest

import etcbench
from conftest import SMALL

torch = pytest.importorskip("torch")

FORMS = [
    {},
    {"pooling": "maximum", "attention": False, "activation": "tanh", "normalisation": "none"},
    {"pooling": "last", "elmo": {"positions": True, "layers": 1, "embedding": 8, "hidden": 8, "epochs": 1}},
]


@pytest.mark.parametrize("form", FORMS)
def test_probabilities_agree_to_1e_5(form, project):
    from etcbench.torch import AttentionLstm

    keys = {"epochs": 2, "elmo": {"embedding": 8, "hidden": 8, "epochs": 1}, "lstm": 16, **form}
    experiment = etcbench.Experiment(
        "table2", models=["attention_lstm"], project=project, model={"attention_lstm": keys}, **SMALL
    )
    run = experiment.run(save_models=True, device="cpu")
    (model,) = run.models.values()
    network = AttentionLstm.from_file(model).eval()
    features, (split,) = experiment.features(), experiment.splits()
    with torch.no_grad():
        tokens = torch.from_numpy(features.bytes[split.test].astype("int64"))
        found = network(tokens).softmax(1).numpy()
    predictions = next(iter(run.predictions.values()))
    stored = numpy.stack([predictions[f"probability_{name}"] for name in features.class_names], axis=1)
    assert numpy.abs(found - stored).max() < 1e-5
    # Includes a flow without any byte.
    with torch.no_grad():
        nothing = torch.full_like(tokens[:2], etcbench.PAD)
        assert torch.isfinite(network(torch.cat([nothing, tokens[:1]]))).all()


def test_what_does_not_fit_is_told(run, project):
    from etcbench.torch import AttentionLstm, Elmo

    with pytest.raises(etcbench.EtcbenchError, match="'knn'"):
        AttentionLstm.from_file(run.models["random_split-knn-bytes-seed0"])
    with pytest.raises(etcbench.EtcbenchError, match="pooling"):
        Elmo(8, 8, 1, bytes=4, pooling="states")
    with pytest.raises(etcbench.EtcbenchError, match="shape"):
        Elmo(8, 8, 1, bytes=4).load({"elmo.embedding.weight": numpy.zeros((257, 9), "f4")})

"""The attention-LSTM in PyTorch behind etcbench-model-1; the network itself is etcbench.torch.AttentionLstm."""
import copy, json, os, sys  # noqa: E401

messages = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what a library prints goes to standard error

import numpy  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

import etcbench  # noqa: E402
from etcbench.torch import AttentionLstm  # noqa: E402


def say(message, **keys):
    print(json.dumps({"message": message, **keys}), file=messages, flush=True)


def rows(ask):
    return torch.from_numpy(numpy.load(ask["bytes"]).astype(numpy.int64))


def made(keys, size, classes, device):
    """A network, with the weights of the pre-trained ELMo where there is one."""
    elmo = {"embedding": keys["embedding"], "hidden": keys["embedding"]}
    found = etcbench.weights(keys["elmo"]) if keys["elmo"] else None
    if found:
        elmo = {name: json.loads(found.metadata["card"])["elmo"][name] for name in ("embedding", "hidden", "layers", "positions")}
    options = {name: keys[name] for name in ("lstm", "dense", "segments")} | {"pooling": "segments", "normalisation": "batch", "elmo": elmo}
    network = AttentionLstm(options, bytes=size, classes=classes)
    if found:
        network.elmo.load(found.arrays)
    return network.to(device)


def probabilities(network, tokens):
    with torch.no_grad():
        parts = [network.eval()(part.to(device)).double().softmax(1).cpu() for part in tokens.split(256)]
    return torch.cat(parts).numpy()


def fit(ask):
    keys, classes = ask["parameters"], len(ask["class_names"])
    torch.manual_seed(ask["seed"] % 2**63)
    tokens, labels = rows(ask["training"]), torch.from_numpy(numpy.load(ask["training"]["labels"]).astype(numpy.int64))
    held_out, truth = rows(ask["validation"]), numpy.load(ask["validation"]["labels"])
    network = made(keys, tokens.shape[2], classes, device)
    encoder = {id(parameter) for parameter in network.elmo.parameters()}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in encoder]
    encoder_rate = keys["encoder_rate"] if keys["elmo"] else keys["learning_rate"]
    groups = [{"params": list(network.elmo.parameters()), "lr": encoder_rate}, {"params": rest}]
    optimiser = torch.optim.AdamW(groups, lr=keys["learning_rate"])
    best, kept, waited = -1.0, copy.deepcopy(network.state_dict()), 0
    for epoch in range(1, keys["epochs"] + 1):
        total = 0.0
        for batch in torch.randperm(len(tokens)).split(keys["batch"]):
            if len(batch) < 2:
                continue  # A batch normalisation needs two rows.
            loss = F.cross_entropy(network.train()(tokens[batch].to(device)), labels[batch].to(device))
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            total += loss.item() * len(batch)
        predicted = probabilities(network, held_out).argmax(axis=1) if len(truth) else truth
        names = list(range(classes))
        score = etcbench.metrics(truth, predicted, class_names=names)["macro_f1"] if len(truth) else float(epoch)
        say("progress", stage="classifier_training", epoch=epoch, training_loss=total / len(tokens), validation_macro_f1=min(score, 1.0))
        if score > best:
            best, kept, waited = score, copy.deepcopy(network.state_dict()), 0
        elif (waited := waited + 1) >= keys["patience"]:
            break
    network.load_state_dict(kept)
    return network


for line in sys.stdin:
    ask = json.loads(line)
    if ask["message"] == "describe":
        say("description", protocol="etcbench-model-1", inputs=["bytes"], deterministic=True, software=f"torch {torch.__version__}")
    elif ask["message"] == "fit":
        device = ask["device"]
        torch.set_num_threads(ask["threads"])
        torch.use_deterministic_algorithms(device == "cpu")
        network, shape = fit(ask), (ask["parameters"], rows(ask["training"]).shape[2], len(ask["class_names"]))
        say("fitted")
    elif ask["message"] == "predict":
        numpy.save(ask["answer"], probabilities(network, rows(ask)))
        say("predicted")
    elif ask["message"] == "save":
        torch.save((shape, network.state_dict()), f"{ask['folder']}/network.pt")
        say("saved")
    elif ask["message"] == "load":
        device = ask["device"]
        torch.set_num_threads(ask["threads"])
        shape, weights = torch.load(f"{ask['folder']}/network.pt", map_location=device)
        network = made(*shape, device)
        network.load_state_dict(weights)
        say("loaded")

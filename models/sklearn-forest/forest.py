"""Random forest of scikit-learn behind etcbench-model-1."""
import json, os, pickle, sys  # noqa: E401
messages = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what a library prints goes to standard error
import numpy, sklearn  # noqa: E401, E402
from sklearn.ensemble import RandomForestClassifier  # noqa: E402


def say(message, **keys):
    print(json.dumps({"message": message, **keys}), file=messages, flush=True)


def columns(ask):
    arrays = [numpy.load(ask[name], mmap_mode="r") for name in ("bytes", "statistics", "sequences") if name in ask]
    return numpy.hstack([array.reshape(ask["rows"], -1) for array in arrays])


for line in sys.stdin:
    ask = json.loads(line)
    if ask["message"] == "describe":
        inputs = ["bytes", "statistics", "bytes_and_statistics", "sequences", "bytes_and_sequences", "sequences_and_statistics", "all"]
        say("description", protocol="etcbench-model-1", inputs=inputs, deterministic=True, software=f"scikit-learn {sklearn.__version__}")
    elif ask["message"] == "fit":
        keys, classes = ask["parameters"], len(ask["class_names"])
        forest = RandomForestClassifier(
            keys["trees"], max_depth=keys["maximum_depth"] or None, min_samples_leaf=keys["minimum_samples_leaf"],
            max_features=keys["maximum_features"], random_state=ask["seed"] % 2**32, n_jobs=ask["threads"])
        forest.fit(columns(ask["training"]), numpy.load(ask["training"]["labels"]))
        say("fitted")
    elif ask["message"] == "predict":
        answer = numpy.zeros((ask["rows"], classes))
        answer[:, forest.classes_] = forest.predict_proba(columns(ask))
        numpy.save(ask["answer"], answer)
        say("predicted")
    elif ask["message"] == "save":
        pickle.dump((forest, classes), open(f"{ask['folder']}/forest.pickle", "wb"))
        say("saved")
    elif ask["message"] == "load":
        forest, classes = pickle.load(open(f"{ask['folder']}/forest.pickle", "rb"))
        say("loaded")

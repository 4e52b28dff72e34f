"""Times scikit-learn and XGBoost on the same synthetic matrix as `cargo bench --bench classical`.

    python benches/peers/classical.py [model ...]

Each line: model, seconds to fit, seconds to predict, accuracy. Data: 10 classes, 6 packets of 128 bytes, 4,000
training and 1,000 test flows, from the generator below, which both programs have.
"""

import sys
import time

import numpy as np
import xgboost
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

ROWS, TRAINING, CLASSES, PACKETS, BYTES = 5000, 4000, 10, 6, 128


def splitmix(start, count):
    """`count` outputs of SplitMix64 from state `start` (Steele, Lea and Flood, 2014)."""
    with np.errstate(over="ignore"):
        z = np.uint64(start) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def tokens():
    """A byte is its class's template's with probability 3/8, else random."""
    width = PACKETS * BYTES
    template = (splitmix(1, CLASSES * width) % np.uint64(256)).reshape(CLASSES, width)
    noise = splitmix(2, ROWS * width).reshape(ROWS, width)
    labels = np.arange(ROWS) % CLASSES
    own = (noise >> np.uint64(32)) % np.uint64(8) < np.uint64(3)
    return np.where(own, template[labels], noise % np.uint64(256)).astype(np.float32), labels


def main():
    raw, labels = tokens()
    # A tenth of the labels is wrong, so that margins overlap as in real traffic.
    wrong = splitmix(3, ROWS)
    labels = np.where(wrong % np.uint64(10) == 0, (wrong >> np.uint64(8)) % np.uint64(CLASSES), labels).astype(int)
    present = np.ones((ROWS, PACKETS, 1))
    near = np.concatenate([raw.reshape(ROWS, PACKETS, BYTES) / 255, present], axis=2).reshape(ROWS, -1)
    training, test = slice(0, TRAINING), slice(TRAINING, ROWS)
    models = {
        "svm": (lambda: SVC(cache_size=1024), StandardScaler().fit(near[training]).transform(near)),
        "random_forest": (lambda: RandomForestClassifier(100, random_state=0, n_jobs=-1), raw),
        "knn": (lambda: KNeighborsClassifier(5, algorithm="brute", n_jobs=-1), near.astype(np.float32)),
        "gradient_boosting": (lambda: xgboost.XGBClassifier(n_estimators=5, tree_method="hist"), raw),
    }
    for name in sys.argv[1:] or models:
        make, values = models[name]
        started = time.perf_counter()
        model = make().fit(values[training], labels[training])
        fitted = time.perf_counter()
        predicted = model.predict(values[test])
        done = time.perf_counter()
        print(f"{name} {fitted - started:.3f} {done - fitted:.3f} {(predicted == labels[test]).mean():.4f}")


main()

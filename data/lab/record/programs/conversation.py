"""What people write to one another: messages of realistic lengths at realistic times, drawn by a seed."""

WORDS = (
    "the of and to in is you that it he was for on are as with his they at be this have from or one had by word but not what all were we when "
    "your can said there use an each which she do how their if will up other about out many then them these so some her would make like him "
    "into time has look two more write go see number no way could people my than first water been call who oil its now find long down day did "
    "get come made may part tomorrow meeting lunch train ticket photo later maybe yes okay thanks sure great really sorry late early office home "
    "weekend coffee dinner project deadline review question answer working broken fixed tonight morning afternoon"
).split()


def message(rng) -> str:
    """One message: mostly a few words, now and then a paragraph."""
    length = min(120, max(1, int(rng.lognormvariate(1.8, 0.9))))
    text = " ".join(rng.choice(WORDS) for _ in range(length))
    return text + rng.choice(["", "", "", ".", "?", "!", " :)"])


def pause(rng) -> float:
    """Seconds until the next message, reading and typing together."""
    return min(3.0, rng.lognormvariate(-0.6, 0.8))


NAMES = ["ada", "ben", "cleo", "dan", "eva", "finn", "gus", "hana", "ida", "jon", "kim", "leo", "mia", "noor", "olga", "pia", "quin", "rosa", "sam", "tess"]


def names(rng, count: int) -> list[str]:
    """Distinct user names; the number makes them distinct between sessions too."""
    return [f"{name}{rng.randrange(10_000)}" for name in rng.sample(NAMES, count)]

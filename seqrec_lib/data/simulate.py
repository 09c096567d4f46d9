"""The demo data set: made-up people watch made-up films. No download, no real user, title or rating.

What a person watches next is a draw from a mixture of three habits, so that there is something to learn at each range:

- *follow on* (``FOLLOW``): the sequel of the last film, or one of its few usual followers: order, seen by
  a Markov chain;
- *come back* (``RETURN``): the next part of a series begun earlier and left: order at a distance;
- *taste* (the rest): softmax of film popularity and the match between the film and the person's taste, which
  drifts: visible only in a longer history.

No film is watched twice. Ratings follow the match and the film's quality. Films watched in one evening
share a timestamp, so that the order of ties matters as it does in the real data sets.

Probabilities are rounded to integers before sampling: the last bit of an exp() or of a matrix product,
which differs between processors, then cannot change a draw (except with negligible probability), and the
seed gives the same data everywhere.

Glossary: n users, m films, d taste dimensions (one per genre).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seqrec_lib.data.interactions import Interactions

SEED = 20260
USERS, ITEMS, INTERACTIONS = 1_000, 500, 30_000

FOLLOW, RETURN = 0.38, 0.12
FOLLOWERS = np.array([0.6, 0.25, 0.15])  # the sequel (or first follower) and two more
TASTE, POPULARITY = 6.0, 0.8  # weights in the softmax
DRIFT = 0.03  # share of the taste that is drawn anew with each film
SHORTEST, LONGEST = 8, 120
GRID = 1e9  # probabilities are integers on this scale

_MINUTE, _DAY = 60, 86_400
_FIRST_DAY = 946_684_800  # 1 January 2000, UTC

# genre -> (adjectives, nouns); every title also holds an invented name, so that no real film has it
_GENRES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Space": (("Silent", "Orbital", "Distant", "Frozen"), ("Comet", "Station", "Nebula", "Signal", "Colony")),
    "Mystery": (("Missing", "Hidden", "Locked", "Seventh"), ("Letter", "Witness", "Alibi", "Manor", "Clue")),
    "Western": (("Dusty", "Lonely", "Crooked", "Last"), ("Saddle", "Canyon", "Sheriff", "Railroad", "Ranch")),
    "Comedy": (("Clumsy", "Accidental", "Noisy", "Borrowed"), ("Wedding", "Landlord", "Cousin", "Holiday", "Parrot")),
    "Horror": (("Hollow", "Whispering", "Pale", "Buried"), ("Cellar", "Doll", "Crypt", "Mirror", "Fog")),
    "Romance": (("Tender", "Secret", "Faithful", "Late"), ("Summer", "Promise", "Waltz", "Kiss", "Garden")),
    "Fantasy": (("Enchanted", "Golden", "Forgotten", "Winged"), ("Dragon", "Crown", "Wizard", "Sword", "Realm")),
    "Crime": (("Stolen", "Marked", "Double", "Quiet"), ("Heist", "Ledger", "Informer", "Vault", "Alley")),
    "War": (("Broken", "Northern", "Distant", "Iron"), ("Regiment", "Trench", "Convoy", "Armistice", "Outpost")),
    "Music": (("Electric", "Velvet", "Blue", "Wandering"), ("Trumpet", "Chorus", "Encore", "Ballad", "Drummer")),
}
_ONSETS = ("Vel", "Tar", "Quil", "Bran", "Osm", "Mir", "Zan", "Kel", "Dru", "Ful", "Hesp", "Jor", "Lun", "Nim", "Pryn")
_ENDINGS = ("mora", "quin", "ado", "wick", "essa", "orin", "ildo", "abeth", "unde", "ovar", "ixen", "ulio")


@dataclass(frozen=True)
class Films:
    """The made-up catalogue. Films are 0..m-1; the film after the last part of a series is -1.

    titles, genres: of each film (one to three genres, the first is the main one); features: (m, d) match
    with tastes; sequel: (m,) the next part; transition: (m, m) where a film leads, rows sum to 1;
    log_popularity, quality: (m,)
    """

    titles: tuple[str, ...]
    genres: tuple[tuple[str, ...], ...]
    features: np.ndarray
    sequel: np.ndarray
    transition: np.ndarray
    log_popularity: np.ndarray
    quality: np.ndarray


def simulate(
    seed: int = SEED, *, users: int = USERS, items: int = ITEMS, interactions: int = INTERACTIONS
) -> Interactions:
    """Simulate the demo data set: about ``interactions`` rows, users one after another, each in time order.

    Labels are integers from 1; timestamps are in seconds. The same arguments give the same rows.
    """
    rng = np.random.default_rng(seed)
    films = make_films(rng, items)
    lengths = _lengths(rng, users, items, interactions)
    watched, match = _watch(rng, films, lengths)
    mask = np.arange(watched.shape[1]) < lengths[:, None]
    history = watched[mask]
    return Interactions(
        users=np.repeat(np.arange(1, users + 1, dtype=np.int64), lengths),
        items=history.astype(np.int64) + 1,
        timestamps=_timestamps(rng, mask)[mask],
        ratings=_ratings(rng, films.quality[history], match[mask], lengths),
        titles={film + 1: title for film, title in enumerate(films.titles)},
    )


def make_films(rng: np.random.Generator, m: int) -> Films:
    """The catalogue: series of two to five parts and single films, each with what it leads to."""
    names = list(_GENRES)
    d = len(names)
    series = np.zeros(m, dtype=np.int64)  # which series (or single film) each film belongs to
    part = np.zeros(m, dtype=np.int64)
    film, group = 0, 0
    while film < m:
        parts = min(int(rng.choice(5, p=[0.35, 0.2, 0.25, 0.12, 0.08])) + 1, m - film)
        series[film : film + parts], part[film : film + parts] = group, np.arange(parts)
        film, group = film + parts, group + 1
    sequel = np.where(np.append(part[1:], 0) > 0, np.arange(1, m + 1), -1)

    main = rng.integers(d, size=group)
    second = rng.integers(d, size=group)
    features = np.zeros((group, d))
    features[np.arange(group), main] = 1.0
    features[np.arange(group), second] += 0.5
    features = (features + 0.15 * rng.standard_normal((group, d)))[series]
    features /= np.linalg.norm(features, axis=1, keepdims=True)

    log_popularity = rng.standard_normal(group)[series] - 0.15 * part  # later parts are seen by fewer
    quality = 0.5 * rng.standard_normal(m)
    genres = tuple(tuple(dict.fromkeys((names[main[g]], names[second[g]]))) for g in series)
    titles = _titles(rng, series, part, [names[g] for g in main])
    transition = _followers(rng, features, sequel, log_popularity)
    return Films(titles, genres, features, sequel, transition, log_popularity, quality)


def _followers(
    rng: np.random.Generator, features: np.ndarray, sequel: np.ndarray, log_popularity: np.ndarray
) -> np.ndarray:
    """Each film leads to its sequel, if any, and to a few films like it (a weighted draw: Gumbel top-k)."""
    m = len(features)
    score = 3.0 * features @ features.T + 0.5 * log_popularity + rng.gumbel(size=(m, m))
    np.fill_diagonal(score, -np.inf)
    has = np.flatnonzero(sequel >= 0)
    score[has, sequel[has]] = np.inf
    best = np.argsort(-score, axis=1, kind="stable")[:, : len(FOLLOWERS)]
    transition = np.zeros((m, m))
    transition[np.arange(m)[:, None], best] = FOLLOWERS
    return transition


def _lengths(rng: np.random.Generator, n: int, m: int, total: int) -> np.ndarray:
    """(n,) history lengths: log-normal, scaled to sum to about ``total``."""
    raw = np.exp(0.6 * rng.standard_normal(n))
    longest = min(LONGEST, m // 2)
    return np.clip(np.rint(raw * total / raw.sum()), min(SHORTEST, longest), longest).astype(np.int64)


def _watch(rng: np.random.Generator, films: Films, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(films, taste matches), both (n, longest); columns beyond a user's length are meaningless."""
    n, (m, d) = len(lengths), films.features.shape
    taste = _unit(rng.standard_normal((n, d)))
    watched = np.zeros((n, int(lengths.max())), dtype=np.int64)
    match = np.zeros(watched.shape)
    unseen = np.ones((n, m), dtype=bool)
    pending = np.zeros((n, m))  # next parts of series begun and left; fades with time
    for step in range(watched.shape[1]):
        active = np.flatnonzero(lengths > step)
        affinity = taste[active] @ films.features.T
        by_taste = np.exp(np.round(TASTE * affinity + POPULARITY * films.log_popularity, 6)) * unseen[active]
        by_taste /= by_taste.sum(axis=1, keepdims=True)
        chances = (1 - FOLLOW - RETURN) * by_taste
        if step:
            last = watched[active, step - 1]
            chances += FOLLOW * films.transition[last] * unseen[active]
            waiting = pending[active] * unseen[active]
            chances += RETURN * waiting / np.maximum(waiting.sum(axis=1, keepdims=True), 1.0)
        pick = _draw(rng, chances)
        watched[active, step] = pick
        match[active, step] = affinity[np.arange(len(active)), pick]
        unseen[active, pick] = False
        pending *= 0.8
        begun = films.sequel[pick] >= 0
        pending[active[begun], films.sequel[pick[begun]]] = 1.0
        taste[active] = _unit((1 - DRIFT) * taste[active] + DRIFT * rng.standard_normal((len(active), d)))
    return watched, match


def _draw(rng: np.random.Generator, chances: np.ndarray) -> np.ndarray:
    """One column per row, in proportion to ``chances`` (not normalised), in integer arithmetic."""
    ends = np.cumsum(np.rint(chances * GRID).astype(np.int64), axis=1)
    point = rng.integers(ends[:, -1])
    return (ends <= point[:, None]).sum(axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _timestamps(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """(n, longest) seconds, never decreasing: films entered at once, minutes or days apart."""
    n, longest = mask.shape
    kind = rng.random((n, longest))
    minutes = rng.integers(1, 90, size=(n, longest)) * _MINUTE
    days = rng.integers(1, 40, size=(n, longest)) * _DAY
    gaps = np.where(kind < 0.35, 0, np.where(kind < 0.55, minutes, days))
    gaps[:, 0] = rng.integers(0, 1_000 * _DAY, size=n)
    return _FIRST_DAY + np.cumsum(gaps, axis=1)


def _ratings(rng: np.random.Generator, quality: np.ndarray, match: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """(interactions,) float32 ratings 1..5: quality, match with taste, the user's mood, noise."""
    mood = np.repeat(0.4 * rng.standard_normal(len(lengths)), lengths)
    noise = 0.6 * rng.standard_normal(len(quality))
    return np.clip(np.rint(3.2 + quality + 1.2 * match + mood + noise), 1, 5).astype(np.float32)


def _titles(rng: np.random.Generator, series: np.ndarray, part: np.ndarray, main: list[str]) -> tuple[str, ...]:
    """A title for each film; the parts of a series share theirs, numbered."""
    names = [onset + ending for onset in _ONSETS for ending in _ENDINGS]
    rng.shuffle(names)
    numerals = ("", " II", " III", " IV", " V")
    bases: list[str] = []
    first_year: list[int] = []
    for group, genre in enumerate(main):
        adjectives, nouns = _GENRES[genre]
        adjective, noun = adjectives[rng.integers(len(adjectives))], nouns[rng.integers(len(nouns))]
        # Each name serves once per pattern, so that titles stay distinct for any size of catalogue.
        name = names[group % len(names)]
        pattern = (group // len(names) + int(rng.integers(2))) % 4
        bases.append(
            (
                f"The {adjective} {noun} of {name}",
                f"{name} and the {adjective} {noun}",
                f"{name}'s {adjective} {noun}",
                f"{adjective} {noun}, {name}",
            )[pattern]
        )
        first_year.append(int(rng.integers(1950, 2000)))
    return tuple(
        f"{bases[group]}{numerals[number]} ({first_year[group] + 3 * number})"
        for group, number in zip(series.tolist(), part.tolist(), strict=True)
    )

"""The physical building blocks: turning, meshing, flowing, striking, ringing, and the room."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from edgeflow.synth.spec import RATE_HZ

Signal: TypeAlias = NDArray[np.float32]
"""Samples at :data:`RATE_HZ`, shape (N,)."""

Track: TypeAlias = NDArray[np.float64]
"""A slow quantity or a phase at every sample, shape (N,)."""

Curve: TypeAlias = tuple[tuple[float, float], ...]
"""Points (frequency in Hz, level in dB) of a spectrum, straight between them over log frequency."""

TABLE = 4096
"""Steps of the table that holds one turn of a periodic sound."""

HIGHEST_HZ = 7_600.0
"""Nothing periodic is made above this, so that nothing folds at 8 kHz."""


def gain(level_db: float) -> float:
    """The amplitude of a level: 10^(dB / 20)."""
    return float(10.0 ** (level_db / 20.0))


def rms(signal: Signal) -> float:
    """The root mean square of ``signal`` (N,)."""
    return float(np.sqrt(np.mean(np.square(signal, dtype=np.float64))))


def slow(rng: np.random.Generator, n: int, every_s: float) -> Track:
    """A random quantity (N,) of about unit size, with a new value every ``every_s`` seconds."""
    step = every_s * RATE_HZ
    knots = rng.standard_normal(int(n / step) + 2)
    return np.interp(np.arange(n) / step, np.arange(len(knots)), knots)


def rotation(rng: np.random.Generator, n: int, hz: float | Track, wander: float = 0.002) -> Track:
    """The angle (N,) in turns of a shaft at ``hz`` whose speed wanders by the share ``wander``."""
    speed = hz * (1.0 + wander * slow(rng, n, 0.5))
    return np.asarray(rng.uniform() + np.cumsum(speed) / RATE_HZ, dtype=np.float64)


def harmonics(count: int, fall_db: float, every: int = 1) -> Track:
    """Amplitudes by order (K,): ``count`` multiples of ``every``, each ``fall_db`` below the last.

    Example:
        >>> harmonics(2, fall_db=20.0, every=3).tolist()
        [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.1]
    """
    orders = np.zeros(count * every + 1)
    orders[every::every] = 10.0 ** (-fall_db * np.arange(count) / 20.0)
    return orders


def gear_mesh(teeth: int, sideband_db: float, count: int = 3, fall_db: float = 8.0) -> Track:
    """Amplitudes by order (K,) of a gear: the mesh, its harmonics, and sidebands one turn apart.

    The mesh is at ``teeth`` times the shaft speed. An uneven gear modulates it once a turn, which
    puts lines at z f_r +- k f_r (Randall, *Vibration-based Condition Monitoring*, 2011, ch. 2).
    """
    mesh = harmonics(count, fall_db, every=teeth)
    orders = np.zeros(len(mesh) + 3)
    orders[: len(mesh)] = mesh
    for order in np.flatnonzero(mesh):
        for away in (1, 2, 3):
            side = mesh[order] * gain(sideband_db - 6.0 * (away - 1))
            orders[[order - away, order + away]] += side
    return orders


def periodic(rng: np.random.Generator, angle: Track, orders: Track) -> Signal:
    """A sound (N,) that repeats every turn of ``angle``, at unit RMS: sum_k a_k sin(2 pi k angle).

    ``orders`` (K,) are the a_k; each order gets a random phase. One turn is kept in a table and
    read at the angle, so that the cost does not depend on the number of orders.
    """
    turns_hz = max(float(np.max(np.diff(angle), initial=0.0)) * RATE_HZ, 1.0)
    kept = np.array(orders[: int(HIGHEST_HZ / turns_hz) + 1])
    if not np.any(kept):
        return np.zeros(len(angle), np.float32)
    spectrum = kept * np.exp(2j * np.pi * rng.uniform(size=len(orders))[: len(kept)])
    turn = fft.irfft(spectrum, TABLE) * TABLE / np.sqrt(2.0 * np.sum(np.square(kept)))
    turn = np.append(turn, turn[0]).astype(np.float32)
    place = (angle - np.floor(angle)) * TABLE
    step = np.minimum(place.astype(np.int32), TABLE - 1)
    share = (place - step).astype(np.float32)
    return np.asarray(turn[step] + share * (turn[step + 1] - turn[step]), np.float32)


def shaped_noise(rng: np.random.Generator, n: int, curve: Curve) -> Signal:
    """Gaussian noise (N,) at unit RMS with the spectrum ``curve``, drawn line by line."""
    size = fft.next_fast_len(n, real=True)
    points = np.array(curve)
    hz = np.arange(size // 2 + 1, dtype=np.float32) * np.float32(RATE_HZ / size)
    level_db = np.interp(np.log(np.maximum(hz, 1.0)), np.log(points[:, 0]), points[:, 1])
    lines = np.exp(level_db.astype(np.float32) * np.float32(np.log(10.0) / 20.0))
    lines[0] = 0.0  # a microphone hears no constant pressure
    drawn = rng.standard_normal((len(lines), 2), dtype=np.float32).view(np.complex64)[:, 0]
    power = 4.0 * np.sum(np.square(lines, dtype=np.float64))
    noise = fft.irfft(drawn * lines, size)[:n] * np.float32(size / np.sqrt(power))
    return np.asarray(noise, np.float32)


def impulses(n: int, at: ArrayLike, strengths: ArrayLike) -> Signal:
    """Unit clicks (N,) at the sample positions ``at`` (J,), which may fall between two samples."""
    place, size = np.broadcast_arrays(np.asarray(at, np.float64), strengths)
    inside = (place >= 0) & (place < n - 1)
    place, size = place[inside], size[inside]
    before = place.astype(np.int64)
    share = place - before
    clicks = np.bincount(before, size * (1.0 - share), n)
    return np.asarray(clicks + np.bincount(before + 1, size * share, n), np.float32)


def passages(rng: np.random.Generator, angle: Track, order: float, jitter: float = 0.0) -> Track:
    """The sample positions (J,) at which ``angle`` has passed another 1/``order`` of a turn.

    ``jitter`` moves each by a random share of the distance between two.
    """
    targets = np.arange(np.ceil(angle[0] * order), angle[-1] * order)
    targets += jitter * rng.standard_normal(len(targets))
    return np.interp(targets / order, angle, np.arange(len(angle)))


def ring(modes_hz: ArrayLike, decay_s: float) -> Signal:
    """The unit-energy response (M,) of a struck body whose modes die by 60 dB in ``decay_s``."""
    time = np.arange(int(decay_s * RATE_HZ)) / RATE_HZ
    modes = np.asarray(modes_hz, np.float64)[:, None]  # (modes, 1)
    body = (np.sin(2 * np.pi * modes * time) * np.exp(-6.9 * time / decay_s)).sum(axis=0)
    return np.asarray(body / np.sqrt(np.sum(np.square(body))), np.float32)


def convolve(signal: Signal, response: Signal) -> Signal:
    """``signal`` (N,) heard through ``response`` (M,), cut to (N,)."""
    size = fft.next_fast_len(len(signal) + len(response) - 1, real=True)
    product = fft.rfft(signal, size) * fft.rfft(response, size)
    return np.asarray(fft.irfft(product, size)[: len(signal)], np.float32)


def strikes(
    rng: np.random.Generator, n: int, at: Track, body: Signal, rate_hz: float, spread: float = 0.2
) -> Signal:
    """Blows (N,) at the positions ``at`` that ring ``body``; unit RMS where they come ``rate_hz``.

    A blow of a unit-energy body adds 1/N to the mean square, hence the factor sqrt(rate / rate_hz).
    """
    sizes = np.maximum(1.0 + spread * rng.standard_normal(len(at)), 0.1)
    return convolve(impulses(n, at, sizes * np.sqrt(RATE_HZ / rate_hz)), body)


def room(rng: np.random.Generator, decay_s: float, wet_db: float) -> Signal:
    """The response (M,) of a hall: the direct sound, then noise that dies by 60 dB in ``decay_s``.

    Cut at 0.2 s. The diffuse tail as decaying Gaussian noise follows Polack; ``wet_db`` is its
    energy over that of the direct sound.
    """
    time = np.arange(int(0.2 * RATE_HZ)) / RATE_HZ
    tail = rng.standard_normal(len(time)) * np.exp(-6.9 * time / decay_s)
    tail[: int(0.004 * RATE_HZ)] = 0.0  # the first reflection has 1.4 m further to go
    tail *= gain(wet_db) / np.sqrt(np.sum(np.square(tail)))
    tail[0] = 1.0
    return np.asarray(tail, np.float32)


def factory_noise(rng: np.random.Generator, n: int) -> Signal:
    """Noise of a factory (N,) at unit RMS: air and traffic, the hum of others, a clank at times."""
    tilt = rng.normal(-4.0, 0.7)  # dB per octave: between pink and brown
    curve = tuple((60.0 * 2.0**k, tilt * k + rng.normal(0.0, 0.8)) for k in range(8))
    air = shaped_noise(rng, n, ((20.0, -6.0), *curve))
    breath = np.exp(0.12 * slow(rng, n, 1.0)).astype(np.float32)
    turning = rotation(rng, n, rng.uniform(23.0, 25.0), wander=0.001)
    hum = periodic(rng, turning, harmonics(12, rng.uniform(1.0, 3.0), every=2))
    count = rng.poisson(0.3 * n / RATE_HZ)
    body = ring(rng.uniform(400.0, 3500.0, 4), 0.15)
    clanks = strikes(rng, n, rng.uniform(0, n, count), body, rate_hz=0.3)
    noise = air * breath + gain(-9.0) * hum + gain(-14.0) * clanks
    return np.asarray(noise / np.float32(rms(noise)), np.float32)

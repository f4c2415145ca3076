"""The machines that turn: fan, pump, toy car and toy conveyor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow.synth.anomalies import (
    Bearing,
    Condition,
    bearing_blows,
    draw_bearing,
    imbalance,
    leak_hiss,
    slipping,
    squeal,
)
from edgeflow.synth.sources import (
    Curve,
    Signal,
    Track,
    gain,
    gear_mesh,
    harmonics,
    passages,
    periodic,
    ring,
    rotation,
    shaped_noise,
    slow,
    strikes,
)
from edgeflow.synth.spec import RATE_HZ
from edgeflow.synth.variation import about, load, spread


@dataclass(frozen=True)
class Fan:
    """An axial fan: blade-pass tones in the noise of its own air, a motor's mains hum."""

    rotation_hz: float
    """Speed of the shaft at the full supply."""

    blades: int
    """Blades, so that the blade-pass frequency is blades x rotation_hz."""

    blade_db: float
    """Level of the blade-pass tones relative to the air."""

    hum_db: float
    """Level of the hum at twice the mains frequency relative to the air."""

    air: Curve
    """Spectrum of the air."""

    bearing: Bearing
    """Bearing of the shaft."""

    @classmethod
    def draw(cls, rng: np.random.Generator, index: int) -> Fan:
        """The fan number ``index`` of its type."""
        bend_hz = rng.uniform(250.0, 700.0)
        return cls(
            rotation_hz=spread(rng, 18.0, 44.0, index),
            blades=int(rng.integers(5, 10)),
            blade_db=float(rng.uniform(-7.0, -1.0)),
            hum_db=float(rng.uniform(-16.0, -8.0)),
            air=((30.0, -14.0), (bend_hz, 0.0), (4 * bend_hz, -10.0), (8000.0, -34.0)),
            bearing=draw_bearing(rng),
        )

    def sound(self, rng: np.random.Generator, n: int, state: Condition) -> Signal:
        """The dry sound (N,) of one clip; sound power goes with the fifth power of the speed."""
        speed = load(rng) * state.speed
        shaft_hz = self.rotation_hz * speed
        angle = rotation(rng, n, shaft_hz)
        blades = periodic(rng, angle, harmonics(6, 6.0, every=self.blades))
        air = shaped_noise(rng, n, self.air) * about(rng, 0.0)
        sound = air * (1 + np.float32(0.25) * blades) + about(rng, self.blade_db) * blades
        sound += about(rng, -22.0, 1.5) * periodic(rng, angle, harmonics(3, 8.0))
        sound *= np.float32(speed**2.5)
        hum = periodic(rng, rotation(rng, n, 100.0, 0.0002), harmonics(5, 6.0))
        sound += about(rng, self.hum_db) * hum
        if state.unbalance:
            sound += imbalance(rng, angle, state.unbalance)
        if state.bearing:
            sound += bearing_blows(rng, angle, shaft_hz, self.bearing, state.bearing)
        return np.asarray(sound, np.float32)


@dataclass(frozen=True)
class Pump:
    """A centrifugal water pump: vane-pass pulsation, the rush of water, a slowly varying head."""

    rotation_hz: float
    """Speed of the shaft."""

    vanes: int
    """Vanes of the impeller."""

    vane_db: float
    """Level of the vane-pass tones relative to the water."""

    water: Curve
    """Spectrum of the flowing water."""

    bearing: Bearing
    """Bearing of the shaft."""

    @classmethod
    def draw(cls, rng: np.random.Generator, index: int) -> Pump:
        """The pump number ``index`` of its type."""
        rush_hz = rng.uniform(700.0, 1800.0)
        return cls(
            rotation_hz=spread(rng, 23.0, 50.0, index),
            vanes=int(rng.integers(4, 8)),
            vane_db=float(rng.uniform(-4.0, 2.0)),
            water=((40.0, -8.0), (200.0, -12.0), (rush_hz, 0.0), (3500.0, -14.0), (8000.0, -32.0)),
            bearing=draw_bearing(rng),
        )

    def sound(self, rng: np.random.Generator, n: int, state: Condition) -> Signal:
        """The dry sound (N,) of one clip."""
        shaft_hz = self.rotation_hz * load(rng)
        angle = rotation(rng, n, shaft_hz)
        head = np.exp(0.1 * slow(rng, n, 1.5)).astype(np.float32)
        vanes = periodic(rng, angle, harmonics(8, 5.0, every=self.vanes))
        turn = periodic(rng, angle, harmonics(5, 5.0))
        sound = shaped_noise(rng, n, self.water) * head * about(rng, 0.0, 0.7)
        sound += about(rng, self.vane_db, 0.7) * vanes + about(rng, -18.0, 1.5) * turn
        if state.unbalance:
            sound += imbalance(rng, angle, state.unbalance)
        if state.bearing:
            sound += bearing_blows(rng, angle, shaft_hz, self.bearing, state.bearing)
        if state.leak:
            sound += leak_hiss(rng, n, state.leak) * head
        return sound


@dataclass(frozen=True)
class ToyCar:
    """A toy car on its track: a fast motor, the whine of its gears, wheels, joints of the rail."""

    motor_hz: float
    """Speed of the motor at the full supply."""

    pinion: int
    """Teeth of the motor's pinion."""

    reduction: float
    """Turns of the motor for one of the wheels."""

    mesh_db: float
    """Level of the gear mesh relative to the rolling wheels."""

    rolling: Curve
    """Spectrum of the rolling wheels."""

    @classmethod
    def draw(cls, rng: np.random.Generator, index: int) -> ToyCar:
        """The car number ``index`` of its type."""
        return cls(
            motor_hz=spread(rng, 110.0, 200.0, index),
            pinion=int(rng.integers(8, 13)),
            reduction=float(rng.uniform(3.0, 5.0)),
            mesh_db=float(rng.uniform(-2.0, 3.0)),
            rolling=(
                (60.0, -12.0),
                (float(rng.uniform(300, 900)), 0.0),
                (3e3, -12.0),
                (8e3, -24.0),
            ),
        )

    def sound(self, rng: np.random.Generator, n: int, state: Condition) -> Signal:
        """The dry sound (N,) of one clip; the car slows in the bends of its lap."""
        speed = load(rng) * state.speed
        bends = 1.0 + 0.02 * slow(rng, n, 0.6)
        angle = rotation(rng, n, self.motor_hz * speed * bends)
        mesh = periodic(rng, angle, gear_mesh(self.pinion, sideband_db=-18.0))
        motor = periodic(rng, angle, harmonics(8, 3.0))
        sound = shaped_noise(rng, n, self.rolling) * bends.astype(np.float32) ** 2
        sound += about(rng, self.mesh_db, 0.8) * mesh + about(rng, -9.0, 0.8) * motor
        joints_hz = 4.0 * speed
        joints = strikes(
            rng, n, self._joints(rng, n, joints_hz), ring((320.0, 910.0), 0.03), joints_hz
        )
        sound = (sound + about(rng, -9.0) * joints) * np.float32(speed**1.5)
        if state.unbalance:
            sound += imbalance(rng, angle, state.unbalance)
        if state.worn_gear:
            sound += self._worn_gear(rng, angle, state.worn_gear)
        return sound

    @staticmethod
    def _joints(rng: np.random.Generator, n: int, rate_hz: float) -> Track:
        """The sample positions at which a wheel crosses a joint of the rail."""
        return passages(rng, rotation(rng, n, rate_hz), 1.0, jitter=0.1)

    def _worn_gear(self, rng: np.random.Generator, angle: Track, level: float) -> Signal:
        """Strong sidebands of the mesh, and a knock for each turn of the driven gear."""
        orders = gear_mesh(self.pinion, sideband_db=0.0, fall_db=3.0)
        orders[self.pinion :: self.pinion] = 0.0
        turns_hz = float(angle[-1] - angle[0]) / len(angle) * RATE_HZ / self.reduction
        at = passages(rng, angle, 1.0 / self.reduction, jitter=0.005)
        knocks = strikes(rng, len(angle), at, ring((1500.0, 2600.0), 0.01), turns_hz)
        return np.float32(level) * (periodic(rng, angle, orders) + knocks)


@dataclass(frozen=True)
class ToyConveyor:
    """A toy conveyor: a geared motor, the rumble and the joint of the belt, the rollers."""

    motor_hz: float
    """Speed of the motor at the full supply."""

    gear: int
    """Teeth of the motor's gear."""

    roller_hz: float
    """Speed of the rollers at the full supply."""

    belt_s: float
    """Time in which the belt goes round."""

    squeal_hz: float
    """Stick-slip frequency of the slipping belt."""

    mesh_db: float
    """Level of the gear mesh relative to the rumble."""

    rumble: Curve
    """Spectrum of the belt on its rollers."""

    bearing: Bearing
    """Bearing of the rollers."""

    @classmethod
    def draw(cls, rng: np.random.Generator, index: int) -> ToyConveyor:
        """The conveyor number ``index`` of its type."""
        return cls(
            motor_hz=spread(rng, 48.0, 95.0, index),
            gear=int(rng.integers(9, 15)),
            roller_hz=float(rng.uniform(9.0, 16.0)),
            belt_s=float(rng.uniform(1.2, 2.2)),
            squeal_hz=float(rng.uniform(900.0, 2200.0)),
            mesh_db=float(rng.uniform(-8.0, -3.0)),
            rumble=((40.0, -4.0), (float(rng.uniform(120, 300)), 0.0), (2e3, -22.0), (8e3, -40.0)),
            bearing=draw_bearing(rng),
        )

    def sound(self, rng: np.random.Generator, n: int, state: Condition) -> Signal:
        """The dry sound (N,) of one clip."""
        speed = load(rng) * state.speed
        slips = slipping(rng, n, state.slipping_belt)
        motor = rotation(rng, n, self.motor_hz * speed * (1.0 + 0.04 * slips))
        rollers = rotation(rng, n, self.roller_hz * speed * (1.0 - 0.5 * slips))
        belt = (1.0 - 0.4 * slips).astype(np.float32)
        mesh = periodic(rng, motor, gear_mesh(self.gear, sideband_db=-12.0))
        sound = shaped_noise(rng, n, self.rumble) * about(rng, 0.0, 0.7) * belt
        sound += about(rng, self.mesh_db, 0.8) * mesh
        sound += about(rng, -8.0) * periodic(rng, motor, harmonics(6, 4.0))
        sound = (sound + self._turns(rng, rollers)) * np.float32(speed**1.5)
        if state.slipping_belt:
            sound += gain(-12.0) * squeal(rng, slips, self.squeal_hz)
        if state.bearing:
            hz = self.roller_hz * speed
            sound += bearing_blows(rng, rollers, hz, self.bearing, state.bearing)
        return sound

    def _turns(self, rng: np.random.Generator, rollers: Track) -> Signal:
        """The tick of each turn of a roller and the thump of the belt's joint."""
        n = len(rollers)
        ticks = passages(rng, rollers, 1.0, jitter=0.02)
        sound = gain(-10.0) * strikes(rng, n, ticks, ring((700.0, 1900.0), 0.01), self.roller_hz)
        turns = passages(rng, rollers, 1.0 / (self.roller_hz * self.belt_s), jitter=0.01)
        thumps = strikes(rng, n, turns, ring((85.0, 210.0), 0.06), 1.0 / self.belt_s)
        return np.asarray(sound + gain(-8.0) * thumps, np.float32)

"""How a bird sits in its frame: one 2 x 3 matrix a joint, from the template's units to the unit
square (y down).

J: joints. N: points.
"""

import numpy as np

from ssl_parts.data.sets.birds.anatomy import JOINTS, Template

EXTENT = (0.56, 0.82)  # longer side of the bird's frame over the image's side
MARGIN = 0.02
RAISED, LOOKS_BACK = 0.3, 0.12  # share of the birds


def _turn(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s], [s, c]])


def _joint_turns(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """2 x 2 matrix of each joint. All numbers are drawn whatever the pose, so that poses use the
    generator alike.
    """
    u = rng.random(8)
    raised = u[0] < RAISED
    wing = 38 + 40 * u[1] if raised else -10 + 24 * u[1]
    far = wing + 10 + 18 * u[2] if raised else wing
    head = _turn(-26 + 40 * u[3])
    if u[4] < LOOKS_BACK and not raised:  # a raised wing would hide a head turned back
        head = np.diag([-1.0, 1.0]) @ _turn(-12 + 20 * u[3])
    return {"body": np.eye(2), "head": head, "tail": _turn(-28 + 56 * u[5]), "wing": _turn(wing),
            "far_wing": _turn(far), "legs": _turn(-18 + 36 * u[6])}  # fmt: skip


def _whole(rng: np.random.Generator, pitch: float) -> np.ndarray:
    """Flip, rotation, stretch and shear of the whole bird."""
    u = rng.random(5)
    squeeze = np.array([[0.84 + 0.28 * u[0], 0.0], [0.0, 1.0]]) @ np.array(
        [[1.0, -0.14 + 0.28 * u[1]], [0.0, 1.0]]
    )
    flip = np.diag([-1.0 if u[2] < 0.5 else 1.0, 1.0])
    return flip @ _turn(-pitch + 84 * (u[3] - 0.5)) @ squeeze


def place(points_N2: np.ndarray, joint_N: np.ndarray, matrices_J23: np.ndarray) -> np.ndarray:
    """Points of the template in the unit square."""
    m = matrices_J23[joint_N]
    return m[:, :, 0] * points_N2[:, :1] + m[:, :, 1] * points_N2[:, 1:] + m[:, :, 2]


def draw_pose(rng: np.random.Generator, bird: Template, pitch: float) -> np.ndarray:
    """A random pose as matrices_J23. It depends on the genus of `bird` alone, not on the marks of
    its species.
    """
    whole, turns = _whole(rng, pitch), _joint_turns(rng)
    u = rng.random(3)
    matrices = np.empty((len(JOINTS), 2, 3))
    for j, joint in enumerate(JOINTS):
        matrices[j, :, :2] = whole @ turns[joint]
        matrices[j, :, 2] = whole @ (bird.pivots_J2[j] - turns[joint] @ bird.pivots_J2[j])
    frame = place(bird.frame_M2, bird.frame_joint_M, matrices)
    low, high = frame.min(0), frame.max(0)
    scale = (EXTENT[0] + (EXTENT[1] - EXTENT[0]) * u[2]) / (high - low).max()
    room = 1 - 2 * MARGIN - scale * (high - low)
    matrices *= scale
    matrices[:, :, 2] += MARGIN + room * u[:2] - scale * low
    return matrices

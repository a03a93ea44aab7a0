"""Where fields and coefficients lie on several devices: all that says so is here.

Under a mesh with an axis `space` (`jax.set_mesh`) fields are split by latitude and
coefficients by order. Sums over longitude and pointwise layers are then local in the
one layout, sums over latitude, convolutions and norms in the other, and XLA puts one
all-to-all between them, where `by_latitude` meets `by_order`. Samples are split over
the axis `data`. Without a mesh nothing happens, to the last bit.

Order m exists at degrees m and above only, and products skip what does not exist: a
device with the first orders would work for all, one with the last ones for nobody. So
pairs of orders (2 q, 2 q + 1) are dealt like cards, pair q to part q % num_parts. Every
device then holds some of the first orders, some of the last, and takes the first `stop`
of them from its own hand: no order moves when a range of degrees is cut out. In an
array the hands stand one behind the other; `orders` says which order is where. Order 0
stays the first. What is missing for equal hands is added: orders that are all zero.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

DATA, SPACE = 'data', 'space'


def num_parts() -> int:
    """Devices that share a sphere: `space` of the mesh, one where there is none."""
    return _axes().get(SPACE, 1)


def num_batches() -> int:
    """Parts of a batch: `data` of the mesh, one where there is none."""
    return _axes().get(DATA, 1)


def num_orders(max_degree: int) -> int:
    """Length of the axis of orders that holds 0 to `max_degree`, in equal hands."""
    hand = _hand()
    return -(-(max_degree + 1) // hand) * hand


def orders(count: int) -> np.ndarray:
    """The order at each place of an axis of `count` orders: 0, 1, 2, ... on one part.

    `count` is one of `num_orders`.
    """
    if num_parts() == 1:
        return np.arange(count)
    # [hand, part, order % 2] to [part, hand, order % 2].
    return np.arange(count).reshape(-1, num_parts(), 2).transpose(1, 0, 2).ravel()


def deal(values: np.ndarray, *, axis: int, parts: int) -> np.ndarray:
    """Items of an axis in turn to each of `parts`, the hands one behind the other."""
    hands = np.arange(values.shape[axis]).reshape(-1, parts)
    return values.take(hands.T.ravel(), axis)


def slice_orders(values: jax.Array, start: int, stop: int, *, axis: int) -> jax.Array:
    """Orders `start` to before `stop`, both multiples of a hand's or the whole axis.

    Pairs of orders are sliced likewise, as are any items that have been dealt.
    """
    parts, axis = num_parts(), axis % values.ndim
    if parts == 1:
        return jax.lax.slice_in_dim(values, start, stop, axis=axis)
    hands = _to_hands(values, axis)
    hands = jax.lax.slice_in_dim(hands, start // parts, stop // parts, axis=axis + 1)
    return _from_hands(hands, axis)


def first_orders(values: jax.Array, max_degree: int, *, axis: int) -> jax.Array:
    """Orders up to `max_degree`, and those above that fill the hands."""
    stop = min(num_orders(max_degree), values.shape[axis])
    return slice_orders(values, 0, stop, axis=axis)


def order_0(values: jax.Array) -> jax.Array:
    """`[..., channel]` of order 0, of values `[..., order, channel]`."""
    if num_parts() == 1:
        return values[..., 0, :]
    # One device has it: as a sum over orders its gradient needs not go back there.
    is_first = (orders(values.shape[-2]) == 0).astype(values.dtype)
    return jnp.einsum('...mc,m->...c', values, is_first)


def pad_orders(values: jax.Array, count: int, *, axis: int) -> jax.Array:
    """Appends orders of zeros, up to `count`."""
    parts, axis = num_parts(), axis % values.ndim
    missing = count - values.shape[axis]
    if parts == 1:
        return jnp.pad(values, _after(axis, missing, values.ndim))
    hands = _to_hands(values, axis)
    hands = jnp.pad(hands, _after(axis + 1, missing // parts, hands.ndim))
    return _from_hands(hands, axis)


def join_orders(blocks: Sequence[jax.Array], *, axis: int) -> jax.Array:
    """Ascending blocks of orders to one axis: the inverse of `slice_orders`."""
    axis = axis % blocks[0].ndim
    if num_parts() == 1:
        return jnp.concatenate(blocks, axis=axis)
    hands = [_to_hands(block, axis) for block in blocks]
    return _from_hands(jnp.concatenate(hands, axis=axis + 1), axis)


def by_latitude(values: jax.Array, *, axis: int, batch: int | None) -> jax.Array:
    """Each device holds its rows of latitudes, `axis`, of its samples, `batch`."""
    return _split(values, axis, batch)


def by_order(values: jax.Array, *, axis: int, batch: int | None) -> jax.Array:
    """Each device holds its hand of orders, or of pairs of them, of its samples."""
    return _split(values, axis, batch)


def copies(kernel: jax.Array) -> jax.Array:
    """A copy for every device, `[data, space, ...]`; without a mesh the kernel itself.

    Every device then has the gradient of its own copy, and these are summed where the
    copies are made. The gradient of a kernel that is one array is summed over devices
    wherever it is used: in every step of a rollout.
    """
    devices = num_batches(), num_parts()
    if devices == (1, 1):
        return kernel
    return jax.lax.with_sharding_constraint(
        jnp.broadcast_to(kernel, (*devices, *kernel.shape)), PartitionSpec(DATA, SPACE)
    )


def to_devices(values: jax.Array, devices: Sequence[int]) -> jax.Array:
    """`[batch, order, ...]` to `[data, row, space, hand, ...]`."""
    data, space = devices
    shape = values.shape
    return values.reshape(data, shape[0] // data, space, -1, *shape[2:])


def from_devices(values: jax.Array) -> jax.Array:
    """The inverse of `to_devices`."""
    data, rows, space, hand = values.shape[:4]
    return values.reshape(data * rows, space * hand, *values.shape[4:])


def field_layout() -> PartitionSpec:
    """Of `[lat, ...]` on the mesh."""
    return PartitionSpec(SPACE)


def table_layout() -> PartitionSpec:
    """Of `[order % 2, order // 2, ...]` on the mesh."""
    return PartitionSpec(None, SPACE)


def _split(values: jax.Array, axis: int, batch: int | None) -> jax.Array:
    if num_parts() == 1:
        return values
    # What is not said is not left open: XLA would try layouts of its own there.
    names: list[str | None] = [None] * values.ndim
    names[axis] = SPACE
    if batch is not None:
        names[batch] = DATA
    return jax.lax.with_sharding_constraint(values, PartitionSpec(*names))


def _axes() -> dict[str, int]:
    return dict(jax.sharding.get_abstract_mesh().shape)


def _hand() -> int:
    return 1 if num_parts() == 1 else 2 * num_parts()


def _to_hands(values: jax.Array, axis: int) -> jax.Array:
    shape = values.shape
    return values.reshape(*shape[:axis], num_parts(), -1, *shape[axis + 1 :])


def _from_hands(values: jax.Array, axis: int) -> jax.Array:
    shape = values.shape
    return values.reshape(*shape[:axis], -1, *shape[axis + 2 :])


def _after(axis: int, count: int, ndim: int) -> list[tuple[int, int]]:
    return [(0, count if i == axis else 0) for i in range(ndim)]

"""Sampling of the sphere: where the rows and columns of a field lie."""

import dataclasses
import difflib
import functools

import numpy as np

KINDS = ('equiangular_with_poles', 'equiangular', 'gauss')
# Public stores round their coordinates, some to three decimals of a degree.
COORDINATE_TOLERANCE_DEGREES = 1e-3


@dataclasses.dataclass(frozen=True)
class LatLonGrid:
    """Latitude rings with equally spaced longitudes, from north to south and eastward.

    Row 0 is the northernmost, column 0 lies on Greenwich: fields are
    `[..., lat, lon, channel]` in that orientation. Two grids are equal when kind and
    sizes are, and a grid is hashable, so that it can be a static argument.

    Attributes:
      kind: `'equiangular_with_poles'` (first and last row on the poles),
        `'equiangular'` (rows at the centres of equal cells, no poles) or `'gauss'`
        (Gauss-Legendre nodes).
      num_lat: Number of rows, at least 2; odd is normal.
      num_lon: Number of columns, at least 1.

    Raises:
      ValueError: If the kind is unknown or a size is too small.
    """

    kind: str
    num_lat: int = dataclasses.field(kw_only=True)
    num_lon: int = dataclasses.field(kw_only=True)

    def __post_init__(self):
        if self.kind not in KINDS:
            near = difflib.get_close_matches(str(self.kind), KINDS, n=1, cutoff=0.0)
            raise ValueError(
                f'expected grid kind in {KINDS}, got {self.kind!r}; '
                f'did you mean {near[0]!r}?'
            )
        _check_size('num_lat', self.num_lat, minimum=2)
        _check_size('num_lon', self.num_lon, minimum=1)

    @classmethod
    def from_latitudes_longitudes(cls, latitudes, longitudes) -> 'LatLonGrid':
        """Recognises the grid that a store's coordinates describe.

        Args:
          latitudes: `[lat]`, degrees, north to south.
          longitudes: `[lon]`, degrees, eastward from 0.

        Returns:
          The one grid whose coordinates agree to within 1e-3 degrees.

        Raises:
          ValueError: If the orientation is another, or no kind agrees: the message
            gives the nearest kind and the largest difference.
        """
        latitudes = _coordinate('latitude', latitudes, minimum=2)
        longitudes = _coordinate('longitude', longitudes, minimum=1)
        _check_longitudes(longitudes)
        _check_north_to_south(latitudes)
        sizes = dict(num_lat=latitudes.size, num_lon=longitudes.size)
        candidates = [cls(kind, **sizes) for kind in KINDS]
        differences = [_largest(c.latitudes - latitudes) for c in candidates]
        nearest = int(np.argmin(differences))
        if differences[nearest] > COORDINATE_TOLERANCE_DEGREES:
            raise ValueError(_unknown_latitudes(candidates[nearest], latitudes))
        return candidates[nearest]

    @property
    def shape(self) -> tuple[int, int]:
        """`(num_lat, num_lon)`."""
        return self.num_lat, self.num_lon

    @functools.cached_property
    def colatitudes(self) -> np.ndarray:
        """`[lat]`, radians from the north pole, ascending, float64."""
        n = self.num_lat
        if self.kind == 'equiangular_with_poles':
            return _frozen(np.linspace(0, np.pi, n))
        if self.kind == 'equiangular':
            return _frozen(np.pi * (np.arange(n) + 0.5) / n)
        return _gauss_legendre(n)[0]

    @functools.cached_property
    def latitudes(self) -> np.ndarray:
        """`[lat]`, degrees, north to south, float64."""
        # Rounded so that the equator of an odd grid is exactly 0 (+ 0.0: and not -0).
        return _frozen(np.round(90 - np.degrees(self.colatitudes), 13) + 0.0)

    @functools.cached_property
    def longitudes(self) -> np.ndarray:
        """`[lon]`, degrees, eastward from 0, float64."""
        return _frozen(np.arange(self.num_lon) * 360 / self.num_lon)

    @functools.cached_property
    def quadrature_weights(self) -> np.ndarray:
        """`[lat]`, float64: integrals over sin(colatitude) d(colatitude); sum to 2.

        Exact for polynomials in cos(colatitude) up to degree num_lat - 1 (equiangular
        kinds: the rules of Clenshaw-Curtis and of Fejer, his first) or 2 num_lat - 1
        (Gauss). The integral of a field over the sphere is the sum over the grid of
        `weights[:, None] * 2 pi / num_lon * field`.
        """
        n = self.num_lat
        if self.kind == 'equiangular_with_poles':
            return _frozen(_clenshaw_curtis_weights(n))
        if self.kind == 'equiangular':
            return _frozen(_fejer_weights(n))
        return _gauss_legendre(n)[1]

    @functools.cached_property
    def area_weights(self) -> np.ndarray:
        """`[lat]`, float64, mean 1: see the function `area_weights`."""
        return _frozen(area_weights(self.latitudes))

    @property
    def max_degree(self) -> int:
        """Largest degree, inclusive, that the grid analyses exactly.

        The product of two harmonics of this degree is still integrated exactly along
        latitude, and its orders are not aliased along longitude.
        """
        # Two harmonics of degree L make a polynomial of degree 2 L: the quadratures
        # above give L = (n - 1) / 2 and L = n - 1/2. Of n columns, order n / 2 cannot
        # be told from -n / 2.
        rows = self.num_lat - 1
        meridional = rows if self.kind == 'gauss' else rows // 2
        return min(meridional, (self.num_lon - 1) // 2)


def area_weights(latitudes: np.typing.ArrayLike) -> np.ndarray:
    """Weights of the rows: the area of a cell over the mean area of all.

    Cell bounds lie halfway between rows, the outermost at the poles (WeatherBench 2,
    `metrics.get_lat_weights`). Where the outermost row is as far from its pole as from
    the next row, the grid is a limited area there, and its cell ends half a spacing
    beyond the row. For scores: not exact for spectra.

    Args:
      latitudes: `[lat]`, degrees, ascending or descending.

    Returns:
      `[lat]`, float64, mean 1.

    Raises:
      ValueError: latitudes that are not strictly monotonic or beyond the poles.
    """
    latitudes = np.asarray(latitudes, np.float64)
    steps = np.sign(np.diff(latitudes))
    if latitudes.ndim != 1 or np.unique(steps).size > 1 or 0 in steps:
        raise ValueError(
            f'expected latitudes in ascending or descending order, got {latitudes}'
        )
    if np.abs(latitudes).max() > 90 + COORDINATE_TOLERANCE_DEGREES:
        raise ValueError(
            'expected latitudes in degrees between -90 and 90, got '
            f'{latitudes.min():g} to {latitudes.max():g}'
        )
    south_first = latitudes if latitudes[0] < latitudes[-1] else latitudes[::-1]
    inner = (south_first[1:] + south_first[:-1]) / 2
    south, north = outer_bounds(south_first)
    areas = np.diff(np.sin(np.radians(np.concatenate([[south], inner, [north]]))))
    areas = areas if south_first is latitudes else areas[::-1]
    return areas / areas.mean()


def is_global(latitudes: np.typing.ArrayLike, longitudes: np.typing.ArrayLike) -> bool:
    """Whether rows and columns cover the whole sphere.

    They do where no gap is as wide as the spacing between the outermost rows and the
    poles, nor wider between columns (half a spacing more is forgiven).

    Args:
      latitudes: `[lat]`, degrees, in order.
      longitudes: `[lon]`, degrees, eastward.
    """
    rows = np.sort(np.asarray(latitudes, np.float64))
    columns = np.sort(np.mod(np.asarray(longitudes, np.float64), 360))
    gaps = np.diff(columns, append=columns[:1] + 360)
    evenly = gaps.max() <= 1.5 * 360 / columns.size
    return outer_bounds(rows) == (-90.0, 90.0) and bool(evenly)


def outer_bounds(south_first: np.ndarray) -> tuple[float, float]:
    """Where the cells of the outer rows of `[lat]`, south first, end: degrees."""
    if south_first.size < 2:
        return -90.0, 90.0
    bounds = []
    for sign, row, inner in ((-1, 0, 1), (1, -1, -2)):
        spacing = abs(south_first[row] - south_first[inner])
        to_pole = 90 - sign * south_first[row]
        # The outermost row of a Gauss grid is 0.78 of a spacing away from the pole; at
        # a whole one a row at the pole is missing.
        limited = to_pole > 0.9 * spacing
        bounds.append(
            float(south_first[row] + sign * spacing / 2) if limited else 90.0 * sign
        )
    return bounds[0], bounds[1]


def _check_size(name: str, size, *, minimum: int) -> None:
    integer = isinstance(size, int | np.integer) and not isinstance(size, bool)
    if not integer or size < minimum:
        raise ValueError(f'expected {name} to be an integer >= {minimum}, got {size!r}')


def _coordinate(name: str, values, *, minimum: int) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or values.size < minimum or not np.isfinite(values).all():
        raise ValueError(
            f'expected {name} to be at least {minimum} finite degrees along one axis, '
            f'got shape {values.shape} with {(~np.isfinite(values)).sum()} not finite'
        )
    return values


def _check_longitudes(longitudes: np.ndarray) -> None:
    """Raises unless columns run eastward from 0 over the whole circle."""
    expected = np.arange(longitudes.size) * 360 / longitudes.size
    difference = _largest(longitudes - expected)
    if difference <= COORDINATE_TOLERANCE_DEGREES:
        return
    found = f'{longitudes[0]:g} to {longitudes[-1]:g} ({longitudes.size} columns)'
    wrapped = np.sort(np.mod(longitudes + COORDINATE_TOLERANCE_DEGREES, 360))
    wrapped = wrapped - COORDINATE_TOLERANCE_DEGREES
    if abs(longitudes[-1] - longitudes[0] - 360) <= COORDINATE_TOLERANCE_DEGREES:
        fix = 'the last column repeats the first: drop it'
    elif _largest(wrapped - expected) <= COORDINATE_TOLERANCE_DEGREES:
        fix = (
            'take longitude modulo 360 and sort coordinates and fields by it, e.g. '
            "ds.assign_coords(longitude=ds.longitude % 360).sortby('longitude')"
        )
    else:
        fix = (
            f'the largest difference is {difference:.6g} degrees: interpolate to '
            'equally spaced longitudes over the whole circle that start at 0'
        )
    raise ValueError(
        f'expected longitude eastward from 0 to {expected[-1]:g}, got {found}; {fix}'
    )


def _check_north_to_south(latitudes: np.ndarray) -> None:
    steps = np.diff(latitudes)
    if (steps < 0).all():
        return
    found = f'{latitudes[0]:g} to {latitudes[-1]:g}'
    if (steps > 0).all():
        fix = (
            'flip the latitude axis of coordinates and fields together, once, where '
            'the data is read, e.g. ds.isel(latitude=slice(None, None, -1))'
        )
    else:
        row = int(np.argmax(steps >= 0))
        fix = f'rows {row} and {row + 1} are not in descending order: sort them'
    raise ValueError(f'expected latitude north to south, got {found}; {fix}')


def _unknown_latitudes(nearest: LatLonGrid, latitudes: np.ndarray) -> str:
    differences = np.abs(nearest.latitudes - latitudes)
    row = int(np.argmax(differences))
    return (
        f'expected latitudes of one of the grids {KINDS} with {latitudes.size} rows; '
        f'nearest is {nearest.kind!r}, but its row {row} is at '
        f'{nearest.latitudes[row]:.6g} and the given one at {latitudes[row]:.6g}: the '
        f'largest difference is {differences[row]:.6g} degrees, more than '
        f'{COORDINATE_TOLERANCE_DEGREES}; regrid the data to one of these grids'
    )


def _largest(differences: np.ndarray) -> float:
    return float(np.abs(differences).max())


def _frozen(values: np.ndarray) -> np.ndarray:
    """The same values, read-only: cached arrays are shared by every user of a grid."""
    values.flags.writeable = False
    return values


def _clenshaw_curtis_weights(num_nodes: int) -> np.ndarray:
    """Weights at colatitudes pi j / (n - 1); Waldvogel 2006, BIT 46, eq. (2.4)."""
    n = num_nodes - 1
    k = np.arange(1, n // 2 + 1)
    factors = np.where(2 * k == n, 1, 2) / (4 * k**2 - 1)
    cosines = np.cos(2 * np.pi / n * np.outer(np.arange(num_nodes), k))
    weights = 2 / n * (1 - cosines @ factors)
    weights[[0, -1]] /= 2
    return weights


def _fejer_weights(num_nodes: int) -> np.ndarray:
    """Weights at colatitudes pi (j + 1/2) / n; Waldvogel 2006, BIT 46, eq. (2.2)."""
    n = num_nodes
    k = np.arange(1, n // 2 + 1)
    cosines = np.cos(2 * np.pi / n * np.outer(np.arange(n) + 0.5, k))
    return 2 / n * (1 - cosines @ (2 / (4 * k**2 - 1)))


@functools.lru_cache(maxsize=16)
def _gauss_legendre(num_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Colatitudes, ascending, and weights.

    Newton's method in the angle, from Tricomi's first guess: at 128 rows ten times as
    accurate as `numpy.polynomial.legendre.leggauss`, at 721 five hundred times.
    """
    n = num_nodes
    angles = np.pi * (np.arange(n) + 0.75) / (n + 0.5)
    for _ in range(5):  # Quadratic convergence: three suffice, five are safe.
        value, slope = _legendre_and_slope(n, angles)
        angles = angles - value / slope
    # Symmetric to the last bit, as the transforms suppose, which fold at the equator.
    angles = (angles + np.pi - angles[::-1]) / 2
    _, slope = _legendre_and_slope(n, angles)
    return _frozen(angles), _frozen(2 / slope**2)


def _legendre_and_slope(degree: int, angles: np.ndarray) -> tuple[np.ndarray, ...]:
    """`P(cos angle)` and its derivative by the angle."""
    x = np.cos(angles)
    before, value = np.ones_like(x), x
    for k in range(1, degree):
        before, value = value, ((2 * k + 1) * x * value - k * before) / (k + 1)
    return value, degree * (x * value - before) / np.sin(angles)

"""Mathematics of the sphere: grids, spin-weighted harmonics, spherical convolutions.

Grid fields are `[..., lat, lon, channel]`: rows from north (colatitude 0) to south,
columns eastward from Greenwich. Orientation is physics, not taste: a row flip is a
reflection, which turns spin s into -s. `{spin: array}` holds the fields of each spin,
real at spin 0 and complex at the others; a wind is u + i v at spin 1, u eastward and v
northward.

Harmonics (Goldberg et al. 1967, J. Math. Phys. 8, 2155, with the Condon-Shortley phase;
d^l_mn as in Wikipedia, "Wigner D-matrix"):

    sYlm(colatitude, longitude) =
        (-1)^s sqrt((2 l + 1) / 4 pi) d^l_(m,-s)(colatitude) exp(i m longitude)

At spin 0 this is `scipy.special.sph_harm_y`. `eth` raises the spin,
`eth f = -sin^s (d/dcolatitude + i / sin d/dlongitude) sin^-s f`, and
`eth sYlm = sqrt((l - s) (l + s + 1)) s+1Ylm`; so the gradient of a scalar, east + i
north, is `i eth` of it.

Coefficients of a field, `f = sum_lm a_lm sYlm`, are kept as those of two real fields,
its E and B modes, of which orders m >= 0 are enough:

    a_lm = E_lm + i B_lm,    a_(l,-m) = (-1)^m (conj(E_lm) + i conj(B_lm))

in one REAL array per spin, `[..., order, degree, part, mode, channel]`: part is (real,
imaginary), mode is (E, B), with the E mode alone at spin 0. Entries with degree < order
or degree < |spin| are zero, and so is the imaginary part at order 0.
`fields.coefficient` returns a single a_lm. The reason: a rotation acts on E and B alike
and apart, so a linear map that commutes with rotations is one real matrix per degree
over (spin, mode, channel), and nothing complex is ever multiplied or optimised.
For a wind, `E = -sqrt(l (l + 1))` times stream function and `B = sqrt(l (l + 1))` times
velocity potential over radius: E is rotation, B is divergence. E and B are minus the
"gradient" and "curl" components of ducc0 and of HEALPix's polarisation (Q + i U = -f).

`max_degree` is inclusive everywhere.
"""

from sphere_ops.fields import SpinCoefficients, SpinFields, coefficient
from sphere_ops.grid import LatLonGrid
from sphere_ops.transform import SpinTransform

__all__ = [
    'LatLonGrid',
    'SpinCoefficients',
    'SpinFields',
    'SpinTransform',
    'coefficient',
]

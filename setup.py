"""Packaging of spherecast: spherical CNNs and the weather pipeline on top of them."""

import pathlib

from setuptools import find_packages, setup

# Lower bounds are recent releases; what was run is the newest of each at the time of
# writing. Upper bounds stop packages that break their API between release lines.
CORE = [
    'absl-py>=2.1',
    'cachetools>=5.5',
    'cf-units>=3.3',
    'dinosaur-dycore>=1.2.1,<2',
    'flax>=0.12,<0.13',
    'gcsfs>=2025.3',
    'google-crc32c>=1.6',
    'jax>=0.10,<0.13',
    'jinja2>=3.1',
    'matplotlib>=3.9',
    'ml_collections>=1.1,<2',
    'netCDF4>=1.7',
    'numcodecs>=0.15',
    'numpy>=2.0,<3',
    'optax>=0.2.8,<0.3',
    'orbax-checkpoint>=0.12,<0.13',
    'pandas>=2.2',
    'pydantic>=2.10,<3',
    'pyyaml>=6',
    'scipy>=1.15',
    'tenacity>=9',
    'tensorboardX>=2.6',
    'tqdm>=4.66',
    'xarray>=2025.6',
    'zarr>=3.1,<4',
]
# Neither needs TensorFlow.
TFDS = ['array-record>=0.8.1', 'tensorflow-datasets>=4.9.10']
TEST = [
    'compliance-checker>=6',
    'ducc0>=0.40',
    'gcp-storage-emulator>=2026.7',
    'pytest>=8',
]
# Peers that the benchmarks compare with; the last three are what a checkout of
# google-research/spherical-cnn imports.
BENCHMARKS = [
    'ducc0>=0.40',
    'tensorstore>=0.1.80',
    'zarrs>=0.2.3',
    's2fft>=1.5',
    'torch-harmonics>=0.9',
    'einshape>=1.0',
    'spherical==1.1.4',
    'sympy>=1.13',
]
# To read GRIB; tests make such files.
GRIB = ['cfgrib>=0.9.15', 'eccodes>=2.40']
LINT = ['mypy>=1.15', 'pandas-stubs', 'ruff>=0.12', 'types-cachetools']
EXTRAS = {
    'test': TEST,
    'lint': LINT,
    'benchmarks': BENCHMARKS,
    'dev': TEST + LINT + GRIB + TFDS,
    'grib': GRIB,
    'tfds': TFDS,
    'cuda': ['jax[cuda12]>=0.10,<0.13'],
    'tpu': ['jax[tpu]>=0.10,<0.13'],
    # prepare_data.py --engine=beam.
    'beam': ['apache-beam>=2.60'],
    # Not on the package index: installed from its own repository.
    'weatherbench2': [
        'weatherbench2 @ git+https://github.com/google-research/weatherbench2.git'
    ],
}

setup(
    name='spherecast',
    version='0.1.0',
    description='Weather forecasting with spherical CNNs in JAX, from Zarr to scores',
    long_description=pathlib.Path(__file__).with_name('README.md').read_text('utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.11',
    packages=find_packages(
        include=['launching*', 'learning*', 'sphere_ops*', 'weather*']
    ),
    package_data={'weather.report': ['templates/*']},
    install_requires=CORE,
    extras_require=EXTRAS,
)

"""NetCDF files for tests, written by libraries that the program in the sandbox does not share its code with."""

import h5py
import numpy as np
from scipy.io import netcdf_file

LON = {"units": "degrees_east", "standard_name": "longitude", "axis": "X"}
LAT = {"units": "degrees_north", "standard_name": "latitude", "axis": "Y"}
DAYS = {"units": "days since 2024-01-30", "calendar": "standard", "axis": "T"}
UTM = {
    "grid_mapping_name": "transverse_mercator", "longitude_of_central_meridian": 15.0,
    "latitude_of_projection_origin": 0.0, "scale_factor_at_central_meridian": 0.9996, "false_easting": 500000.0,
    "false_northing": 0.0, "semi_major_axis": 6378137.0, "inverse_flattening": 298.257223563,
}  # fmt: skip
METRES = {axis: {"units": "m", "standard_name": f"projection_{axis}_coordinate", "axis": axis.upper()} for axis in "xy"}


def classic(path, dims, variables, version=2):
    """``dims``: name -> size; ``variables``: name -> (names of dimensions, numbers, attributes)."""
    with netcdf_file(path, "w", version=version) as file:
        for name, size in dims.items():
            file.createDimension(name, size)
        for name, (along, numbers, attributes) in variables.items():
            one = file.createVariable(name, numbers.dtype, along)
            if along:
                one[:] = numbers
            for key, value in attributes.items():
                setattr(one, key, np.float64(value) if type(value) is float else value)  # scipy takes single precision
    return path


def netcdf4(path, dims, variables, **storage):
    """The same as HDF5 with scales, as netCDF-4 has them."""
    with h5py.File(path, "w", track_order=True) as file:
        for name, (along, numbers, attributes) in variables.items():
            one = file.create_dataset(name, data=numbers, **(storage if len(along) > 1 else {}))
            for key, value in attributes.items():
                one.attrs[key] = value
        for name, size in dims.items():
            if name not in file:
                file.create_dataset(name, data=np.zeros(size, ">f4"))
                file[name].make_scale(f"This is a netCDF dimension but not a netCDF variable.{size:10d}")
            else:
                file[name].make_scale(name)
        for name, (along, _, _) in variables.items():
            for n, dim in enumerate(along):
                if dim != name:
                    file[name].dims[n].attach_scale(file[dim])
    return path


WRITERS = {"classic": classic, "netcdf4": netcdf4}


def lonlat(west=10.0, south=45.0, step=0.25, shape=(6, 8), *, up=True, dtype="f8"):
    """Dimensions and coordinates of a small grid; ``up``: its first row is in the south."""
    lat = south + step * np.arange(shape[0])
    lon = west + step * np.arange(shape[1])
    dims = {"lat": shape[0], "lon": shape[1]}
    return dims, {"lat": (("lat",), (lat if up else lat[::-1]).astype(dtype), LAT),
                  "lon": (("lon",), lon.astype(dtype), LON)}  # fmt: skip


def cube(write, path, steps=3, packed=True, **grid):
    """A variable ``depth`` over days on such a grid; its stored numbers (steps, rows, cols), as in the file."""
    dims, coordinates = lonlat(**grid)
    rows, cols = dims["lat"], dims["lon"]
    stored = np.random.default_rng(4).integers(-3000, 3000, (steps, rows, cols)).astype("i2")
    stored[:, 0, 0] = -999
    attributes = {"_FillValue": np.int16(-999), "units": "m", "long_name": "depth of water"}
    if packed:
        attributes |= {"scale_factor": 0.01, "add_offset": 12.5}
    times = np.arange(steps, dtype="f8")
    variables = {"time": (("time",), times, DAYS), **coordinates, "depth": (("time", "lat", "lon"), stored, attributes)}
    write(path, {"time": steps, **dims}, variables)
    return stored


def flat(write, path, numbers=None, attributes=None, grid=None, more=None):
    """One variable ``depth`` on a grid of rows and columns; ``grid``: as ``lonlat`` gives it."""
    dims, coordinates = grid or lonlat()
    shape = tuple(dims.values())
    numbers = np.arange(np.prod(shape), dtype="f4").reshape(shape) if numbers is None else numbers
    depth = (tuple(dims), numbers, attributes or {})
    write(path, dims, {**coordinates, **(more or {}), "depth": depth})
    return numbers

// The one file that knows Python: binds the kernels as fcnkit.runtime._kernels.
#include <pybind11/pybind11.h>

PYBIND11_MODULE(_kernels, m) { m.doc() = "fcnkit's C++ kernels"; }

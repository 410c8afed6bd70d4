// numpy arrays as bindings.cpp takes them: their types, their sizes, and what is required of them.
#pragma once

#include <pybind11/numpy.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>

#include "half.hpp"

namespace fcnkit {

namespace py = pybind11;

using Bytes = py::array_t<std::uint8_t, py::array::c_style>;
using Counts = py::array_t<std::int64_t, py::array::c_style>;
using Floats = py::array_t<float, py::array::c_style>;

inline void require(bool holds, const char* rule) {
    if (!holds) {
        throw std::invalid_argument(rule);
    }
}

inline std::size_t size(const py::array& array) { return static_cast<std::size_t>(array.size()); }

inline std::size_t side(const py::array& array, py::ssize_t axis) {
    return static_cast<std::size_t>(array.shape(axis));
}

inline bool contiguous(const py::array& array) {
    return (array.flags() & py::array::c_style) == py::array::c_style;
}

// Calls body with a pointer to the logits, typed by what numpy says they are. The bits of
// bfloat16 come as uint16, a type that logits cannot have otherwise.
template <class Body>
auto with_logits(const py::array& logits, const Body& body) {
    require(contiguous(logits), "logits must be C-contiguous");
    const char kind = logits.dtype().char_();
    if (kind == 'f') {
        return body(static_cast<const float*>(logits.data()));
    }
    if (kind == 'e') {
        return body(static_cast<const Half*>(logits.data()));
    }
    require(kind == 'H', "logits must be float32, float16 or the bits of bfloat16 as uint16");
    return body(static_cast<const Brain*>(logits.data()));
}

}  // namespace fcnkit

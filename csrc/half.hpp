// The two 16-bit floats as float, bit by bit. Exact: every value of either type is a float.
#pragma once

#include <cstring>

#include "kernels.hpp"

namespace fcnkit {

inline float from_bits(std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

inline float to_float(float value) { return value; }

inline float to_float(Brain value) {
    return from_bits(static_cast<std::uint32_t>(value.bits) << 16);
}

// Shifts exponent and fraction into place, then multiplies by 2^112 to move the exponent's bias
// from 15 to 127, which also makes subnormals normal. Infinity and NaN keep their top exponent.
inline float to_float(Half value) {
    const std::uint32_t magnitude = static_cast<std::uint32_t>(value.bits & 0x7FFFU) << 13;
    const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000U) << 16;
    const float scaled = from_bits(magnitude) * from_bits(0x77800000U);
    std::uint32_t bits;
    std::memcpy(&bits, &scaled, 4);
    const std::uint32_t special = magnitude >= 0x0F800000U ? 0x7F800000U : 0U;
    return from_bits(bits | special | sign);
}

}  // namespace fcnkit

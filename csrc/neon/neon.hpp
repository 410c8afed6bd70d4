// Kernels for NEON on 64-bit Arm: 16 bytes per register, tables of 64 entries per lookup, and
// loads and stores that interleave by themselves.
#pragma once

#include "kernels.hpp"

namespace fcnkit::neon {

bool decode(const std::uint8_t* labels, std::size_t n, const Colors& colors, std::uint8_t* rgb);
bool overlay(const std::uint8_t* image, const std::uint8_t* labels, std::size_t n,
             const Colors& colors, unsigned weight, std::uint8_t* out);
void gather_float(const std::uint8_t* rgb, std::size_t n, const Normalize& normalize,
                  float* const planes[3]);
void gather_half(const std::uint8_t* rgb, std::size_t n, const Normalize& normalize,
                 std::uint16_t* const planes[3]);
template <class T>
void argmax(const Views<T>& views, std::size_t n, std::uint8_t* labels);
template <class T>
void accumulate(const T* row, std::size_t n, bool first, float* sums);

}  // namespace fcnkit::neon

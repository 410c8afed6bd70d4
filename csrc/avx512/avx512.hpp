// Kernels for AVX-512 with VBMI and GFNI: 64 bytes per register, and any byte to any place.
#pragma once

#include "kernels.hpp"

namespace fcnkit::avx512 {

bool decode(const std::uint8_t* labels, std::size_t n, const Colors& colors, std::uint8_t* rgb);
std::size_t encode(const std::uint8_t* rgb, std::size_t n, const Encoder& encoder,
                   std::uint8_t unknown, std::uint8_t* labels);
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

}  // namespace fcnkit::avx512

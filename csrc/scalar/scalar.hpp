// The portable kernels, which every other table also uses for tails and for what it does not
// speed up.
#pragma once

#include "kernels.hpp"

namespace fcnkit::scalar {

bool decode(const std::uint8_t* labels, std::size_t n, const Colors& colors, std::uint8_t* rgb);
std::size_t encode(const std::uint8_t* rgb, std::size_t n, const Encoder& encoder,
                   std::uint8_t unknown, std::uint8_t* labels);
bool overlay(const std::uint8_t* image, const std::uint8_t* labels, std::size_t n,
             const Colors& colors, unsigned weight, std::uint8_t* out);
void gather_float(const std::uint8_t* rgb, std::size_t n, const Normalize& normalize,
                  float* const planes[3]);
void gather_half(const std::uint8_t* rgb, std::size_t n, const Normalize& normalize,
                 std::uint16_t* const planes[3]);
// Only the pixels [begin, end) of the views; labels is where the label of pixel 0 goes.
template <class T>
void argmax_range(const Views<T>& views, std::size_t begin, std::size_t end,
                  std::uint8_t* labels);
template <class T>
void argmax(const Views<T>& views, std::size_t n, std::uint8_t* labels);
template <class T>
void accumulate(const T* row, std::size_t n, bool first, float* sums);
bool confusion(const std::uint8_t* target, const std::uint8_t* predicted, std::size_t n,
               unsigned classes, unsigned ignore, std::uint32_t* scratch, std::int64_t* counts);

}  // namespace fcnkit::scalar

// Whole arrays: the kernels of the active table over all pixels, on as many threads as pay.
// Sizes are trusted; bindings.cpp checks them.
#pragma once

#include "kernels.hpp"

namespace fcnkit {

bool decode_image(const std::uint8_t* labels, std::size_t pixels, const Colors& colors,
                  std::uint8_t* rgb, std::size_t threads);
std::size_t encode_image(const std::uint8_t* rgb, std::size_t pixels, const Encoder& encoder,
                         std::uint8_t unknown, std::uint8_t* labels, std::size_t threads);
bool overlay_image(const std::uint8_t* image, const std::uint8_t* labels, std::size_t pixels,
                   const Colors& colors, unsigned weight, std::uint8_t* out, std::size_t threads);

// logits: `images` times `classes` planes of `pixels`; labels: `images` times `pixels`.
template <class T>
void argmax_images(const T* logits, std::size_t images, std::size_t classes, std::size_t pixels,
                   std::uint8_t* labels, std::size_t threads);

// counts: classes * classes, overwritten.
bool confusion_image(const std::uint8_t* target, const std::uint8_t* predicted,
                     std::size_t pixels, unsigned classes, unsigned ignore, std::int64_t* counts,
                     std::size_t threads);

}  // namespace fcnkit

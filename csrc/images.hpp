// Whole arrays: the kernels of the active table over all pixels, on as many threads as pay.
// Sizes are trusted; bindings.cpp checks them.
#pragma once

#include <atomic>

#include "dispatch.hpp"
#include "parallel.hpp"

namespace fcnkit {

constexpr std::size_t kGrain = 4096;  // pixels: threads meet on page borders of every output

// Runs kernel(table, begin, end) over pieces of all pixels and adds up what it returns. bytes is
// what the kernel moves per pixel.
template <class Kernel>
std::size_t sum_over_pixels(std::size_t pixels, std::size_t bytes, std::size_t threads,
                            const Kernel& kernel) {
    const Table& table = active_table();
    std::atomic<std::size_t> sum{0};
    parallel_for(pixels, kGrain, bytes * pixels, threads,
                 [&](std::size_t begin, std::size_t end) { sum += kernel(table, begin, end); });
    return sum;
}

// logits: `images` times `classes` planes of `pixels`; labels: `images` times `pixels`.
template <class T>
void argmax_images(const T* logits, std::size_t images, std::size_t classes, std::size_t pixels,
                   std::uint8_t* labels, std::size_t threads);

// counts: classes * classes, overwritten.
bool confusion_image(const std::uint8_t* target, const std::uint8_t* predicted,
                     std::size_t pixels, unsigned classes, unsigned ignore, std::int64_t* counts,
                     std::size_t threads);

}  // namespace fcnkit

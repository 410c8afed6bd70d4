#include "images.hpp"

#include <atomic>
#include <mutex>
#include <vector>

#include "dispatch.hpp"
#include "parallel.hpp"

namespace fcnkit {
namespace {

constexpr std::size_t kGrain = 4096;  // pixels: threads meet on page borders of every output

}  // namespace

bool decode_image(const std::uint8_t* labels, std::size_t pixels, const Colors& colors,
                  std::uint8_t* rgb, std::size_t threads) {
    const Table& table = active_table();
    std::atomic<bool> legal{true};
    parallel_for(pixels, kGrain, 4 * pixels, threads, [&](std::size_t begin, std::size_t end) {
        if (!table.decode(labels + begin, end - begin, colors, rgb + 3 * begin)) {
            legal = false;
        }
    });
    return legal;
}

std::size_t encode_image(const std::uint8_t* rgb, std::size_t pixels, const Encoder& encoder,
                         std::uint8_t unknown, std::uint8_t* labels, std::size_t threads) {
    const Table& table = active_table();
    std::atomic<std::size_t> missed{0};
    parallel_for(pixels, kGrain, 4 * pixels, threads, [&](std::size_t begin, std::size_t end) {
        missed += table.encode(rgb + 3 * begin, end - begin, encoder, unknown, labels + begin);
    });
    return missed;
}

bool overlay_image(const std::uint8_t* image, const std::uint8_t* labels, std::size_t pixels,
                   const Colors& colors, unsigned weight, std::uint8_t* out,
                   std::size_t threads) {
    const Table& table = active_table();
    std::atomic<bool> legal{true};
    parallel_for(pixels, kGrain, 7 * pixels, threads, [&](std::size_t begin, std::size_t end) {
        if (!table.overlay(image + 3 * begin, labels + begin, end - begin, colors, weight,
                           out + 3 * begin)) {
            legal = false;
        }
    });
    return legal;
}

template <class T>
void argmax_images(const T* logits, std::size_t images, std::size_t classes, std::size_t pixels,
                   std::uint8_t* labels, std::size_t threads) {
    const Argmax<T> argmax = argmax_of<T>(active_table());
    const std::size_t bytes = pixels * (classes * sizeof(T) + 1);
    for (std::size_t i = 0; i < images; ++i) {
        const T* image = logits + i * classes * pixels;
        std::uint8_t* out = labels + i * pixels;
        parallel_for(pixels, kGrain, bytes, threads, [&](std::size_t begin, std::size_t end) {
            const T* first = image + begin;
            argmax(Views<T>{&first, 1, classes, pixels, 0}, end - begin, out + begin);
        });
    }
}

template void argmax_images(const float*, std::size_t, std::size_t, std::size_t, std::uint8_t*,
                            std::size_t);
template void argmax_images(const Half*, std::size_t, std::size_t, std::size_t, std::uint8_t*,
                            std::size_t);
template void argmax_images(const Brain*, std::size_t, std::size_t, std::size_t, std::uint8_t*,
                            std::size_t);

bool confusion_image(const std::uint8_t* target, const std::uint8_t* predicted,
                     std::size_t pixels, unsigned classes, unsigned ignore, std::int64_t* counts,
                     std::size_t threads) {
    const Table& table = active_table();
    const std::size_t cells = std::size_t{classes} * classes;
    const std::size_t scratch_size = confusion_scratch(classes);
    std::vector<std::uint32_t> scratch(scratch_size * threads);
    std::vector<std::int64_t> partial(cells * threads);
    std::atomic<std::size_t> next{0};
    std::atomic<bool> legal{true};
    parallel_for(pixels, kGrain, 2 * pixels, threads, [&](std::size_t begin, std::size_t end) {
        const std::size_t mine = next++;
        if (!table.confusion(target + begin, predicted + begin, end - begin, classes, ignore,
                             scratch.data() + mine * scratch_size, partial.data() + mine * cells)) {
            legal = false;
        }
    });
    for (std::size_t cell = 0; cell < cells; ++cell) {
        counts[cell] = 0;
        for (std::size_t i = 0; i < threads; ++i) {
            counts[cell] += partial[i * cells + cell];
        }
    }
    return legal;
}

}  // namespace fcnkit

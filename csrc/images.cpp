#include "images.hpp"

#include <vector>

namespace fcnkit {

template <class T>
void argmax_images(const T* logits, std::size_t images, std::size_t classes, std::size_t pixels,
                   std::uint8_t* labels, std::size_t threads) {
    Argmax<T>& argmax = active_table().argmax.of<T>();
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
    const std::size_t cells = std::size_t{classes} * classes;
    const std::size_t scratch_size = confusion_scratch(classes);
    std::vector<std::uint32_t> scratch(scratch_size * threads);
    std::vector<std::int64_t> partial(cells * threads);
    std::atomic<std::size_t> next{0};
    const auto illegal = [&](const Table& table, std::size_t begin, std::size_t end) {
        const std::size_t mine = next++;
        return !table.confusion(target + begin, predicted + begin, end - begin, classes, ignore,
                                scratch.data() + mine * scratch_size,
                                partial.data() + mine * cells);
    };
    const bool legal = sum_over_pixels(pixels, 2, threads, illegal) == 0;
    for (std::size_t cell = 0; cell < cells; ++cell) {
        counts[cell] = 0;
        for (std::size_t i = 0; i < threads; ++i) {
            counts[cell] += partial[i * cells + cell];
        }
    }
    return legal;
}

}  // namespace fcnkit

// Gather over the registers of a set.
#pragma once

namespace fcnkit {

// V loads kPixels pixels at a time, for which it reads kReads bytes, and stores one normalized
// channel of them. The last pixels are left to the portable kernel: a load must stay inside.
template <class V, class Base>
struct GatherLoop : Base {
    template <class T>
    static void gather(const std::uint8_t* rgb, std::size_t n, const Normalize& normalize,
                       T* const planes[3]) {
        const std::size_t i = gather_registers(rgb, n, normalize, planes);
        T* const rest[3] = {planes[0] + i, planes[1] + i, planes[2] + i};
        Scalar::gather(rgb + 3 * i, n - i, normalize, rest);
    }

   private:
    // Returns how many pixels are done.
    template <class T>
    static std::size_t gather_registers(const std::uint8_t* rgb, std::size_t n,
                                        const Normalize& normalize, T* const planes[3]) {
        const V channels(normalize);
        T* const red = planes[0];
        T* const green = planes[1];
        T* const blue = planes[2];
        std::size_t i = 0;
        for (; 3 * i + V::kReads <= 3 * n; i += V::kPixels) {
            const typename V::Pixels pixels = V::load(rgb + 3 * i);
            channels.store(red + i, pixels, 0);
            channels.store(green + i, pixels, 1);
            channels.store(blue + i, pixels, 2);
        }
        return i;
    }
};

}  // namespace fcnkit

// Decode and overlay over the registers of a set.
#pragma once

namespace fcnkit {

// V loads and stores kPixels pixels at a time, looks colors up, weaves channels into pixels and
// blends. V::Small looks up palettes of up to kSmall colors, V::Large any palette. Large is the type
// void where the portable kernel is faster. V::Pixels are three registers, in the order in which
// load_pixels reads them.
template <class V, class Base>
struct ColorLoops : Base {
    using Bytes = typename V::Bytes;
    using Pixels = typename V::Pixels;

    static bool decode(const std::uint8_t* labels, std::size_t n, const Colors& colors,
                       std::uint8_t* rgb) {
        if (colors.classes <= V::kSmall) {
            return decode_with<typename V::Small>(labels, n, colors, rgb);
        }
        if constexpr (std::is_void_v<typename V::Large>) {
            return Base::decode(labels, n, colors, rgb);
        } else {
            return decode_with<typename V::Large>(labels, n, colors, rgb);
        }
    }

    static bool overlay(const std::uint8_t* image, const std::uint8_t* labels, std::size_t n,
                        const Colors& colors, unsigned weight, std::uint8_t* out) {
        if (colors.classes <= V::kSmall) {
            return overlay_with<typename V::Small>(image, labels, n, colors, weight, out);
        }
        if constexpr (std::is_void_v<typename V::Large>) {
            return Base::overlay(image, labels, n, colors, weight, out);
        } else {
            return overlay_with<typename V::Large>(image, labels, n, colors, weight, out);
        }
    }

   private:
    template <class Lookup>
    static bool decode_with(const std::uint8_t* labels, std::size_t n, const Colors& colors,
                            std::uint8_t* rgb) {
        const Lookup red(colors.channel[0]), green(colors.channel[1]), blue(colors.channel[2]);
        const typename V::Weave weave;
        typename V::Flags illegal = V::no_flags();
        std::size_t i = 0;
        for (; i + V::kPixels <= n; i += V::kPixels) {
            const Bytes at = V::load(labels + i);
            illegal = V::either(illegal, V::colorless(at, colors));
            V::store(rgb + 3 * i, weave({{red(at), green(at), blue(at)}}));
        }
        return Scalar::decode(labels + i, n - i, colors, rgb + 3 * i) && V::none(illegal);
    }

    template <class Lookup>
    static bool overlay_with(const std::uint8_t* image, const std::uint8_t* labels, std::size_t n,
                             const Colors& colors, unsigned weight, std::uint8_t* out) {
        const Lookup red(colors.channel[0]), green(colors.channel[1]), blue(colors.channel[2]);
        const typename V::Weave weave;
        const typename V::Blend blend(weight);
        const bool has_void = colors.classes <= kVoid;
        typename V::Flags illegal = V::no_flags();
        std::size_t i = 0;
        for (; i + V::kPixels <= n; i += V::kPixels) {
            const Bytes at = V::load(labels + i);
            illegal = V::either(illegal, V::colorless(at, colors));
            const Pixels before = V::load_pixels(image + 3 * i);
            const Pixels color = weave({{red(at), green(at), blue(at)}});
            const auto same = weave.void_bytes(at, has_void);
            Pixels after;
            FCNKIT_UNROLL
            for (int k = 0; k < 3; ++k) {
                const Bytes mixed = blend(before.part[k], color.part[k]);
                after.part[k] = V::select(same.part[k], before.part[k], mixed);
            }
            V::store(out + 3 * i, after);
        }
        return Scalar::overlay(image + 3 * i, labels + i, n - i, colors, weight, out + 3 * i) &&
               V::none(illegal);
    }
};

}  // namespace fcnkit

// Between 64 pixels as 192 interleaved bytes and as three planes of 64 bytes. Only to be included
// in files that compile for AVX-512.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "target.hpp"

FCNKIT_TARGET_BEGIN(FCNKIT_AVX512)
namespace fcnkit::avx512 {

struct Planes {
    __m512i red, green, blue;
};

// Byte k of the 192 belongs to channel k % 3 of pixel k / 3. A two-register permutation fetches
// red and green (bit 6 of an index chooses the register), a masked one adds blue.
class Weave {
   public:
    Weave() {
        for (int part = 0; part < 3; ++part) {
            alignas(64) std::uint8_t from[64];
            alignas(64) std::uint8_t pixel[64];
            blue_[part] = 0;
            for (int k = 0; k < 64; ++k) {
                const int byte = 64 * part + k;
                pixel[k] = static_cast<std::uint8_t>(byte / 3);
                from[k] = static_cast<std::uint8_t>(byte / 3 + (byte % 3 == 1 ? 64 : 0));
                blue_[part] |= static_cast<std::uint64_t>(byte % 3 == 2) << k;
            }
            from_[part] = _mm512_load_si512(from);
            pixel_[part] = _mm512_load_si512(pixel);
        }
    }

    // Bytes [64 * part, 64 * part + 64) of the pixels.
    __m512i operator()(const Planes& planes, int part) const {
        const __m512i two = _mm512_permutex2var_epi8(planes.red, from_[part], planes.green);
        return _mm512_mask_permutexvar_epi8(two, blue_[part], pixel_[part], planes.blue);
    }

    // Which of those bytes belong to a pixel whose byte in `plane` is 255.
    __mmask64 ones(__m512i plane, int part) const {
        const __m512i bytes = _mm512_permutexvar_epi8(pixel_[part], plane);
        return _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(-1));
    }

   private:
    __m512i from_[3], pixel_[3];
    __mmask64 blue_[3];
};

// The other way: byte p of channel c is byte 3p + c of the 192. The first two registers hold
// bytes 0..127, a masked permutation adds those of the third.
class Unweave {
   public:
    Unweave() {
        for (int channel = 0; channel < 3; ++channel) {
            alignas(64) std::uint8_t from[64];
            third_[channel] = 0;
            for (int p = 0; p < 64; ++p) {
                const int byte = 3 * p + channel;
                from[p] = static_cast<std::uint8_t>(byte & 127);
                third_[channel] |= static_cast<std::uint64_t>(byte >= 128) << p;
            }
            from_[channel] = _mm512_load_si512(from);
        }
    }

    Planes operator()(const std::uint8_t* rgb) const {
        const __m512i a = _mm512_loadu_si512(rgb);
        const __m512i b = _mm512_loadu_si512(rgb + 64);
        const __m512i c = _mm512_loadu_si512(rgb + 128);
        return {plane(a, b, c, 0), plane(a, b, c, 1), plane(a, b, c, 2)};
    }

   private:
    __m512i plane(__m512i a, __m512i b, __m512i c, int channel) const {
        const __m512i two = _mm512_permutex2var_epi8(a, from_[channel], b);
        return _mm512_mask_permutexvar_epi8(two, third_[channel], from_[channel], c);
    }

    __m512i from_[3];
    __mmask64 third_[3];
};

}  // namespace fcnkit::avx512
FCNKIT_TARGET_END

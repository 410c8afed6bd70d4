// The kernels: the signature of each, the portable set, and the table through which a set is
// called.
//
// A set is a struct that derives from Scalar and states only the kernels that it does better.
// Scalar is defined in scalar/. Every other set is compiled as one file, SET/set.cpp. Its kernels
// come from the loops in generic/, over the registers in SET/vectors.hpp, or are its own.
//
// Conventions, true for every kernel unless it says otherwise:
// - lengths count pixels, never bytes; a length of 0 does nothing;
// - inputs may overlap each other, an output overlaps nothing else the call sees;
// - nothing outside [pointer, pointer + length) is read or written, and no alignment is needed;
// - integer results are the same, bit for bit, in every set.
#pragma once

#include <tuple>

#include "encoder.hpp"
#include "kernels.hpp"

namespace fcnkit {

// Label -> RGB. False if a label has no color; then the output is unspecified.
using Decode = bool(const std::uint8_t* labels, std::size_t n, const Colors& colors,
                    std::uint8_t* rgb);

// RGB -> label. Returns how many pixels have no known color.
using Encode = std::size_t(const std::uint8_t* rgb, std::size_t n, const Encoder& encoder,
                           std::uint8_t unknown, std::uint8_t* labels);

// (image * (256 - weight) + color * weight + 128) >> 8, the image itself where void. weight is
// 0..256. out may be the image. False as for Decode.
using Overlay = bool(const std::uint8_t* image, const std::uint8_t* labels, std::size_t n,
                     const Colors& colors, unsigned weight, std::uint8_t* out);

// Interleaved bytes -> three planes of float, or of halves as bits. Within 2 units in the last
// place of the exact value plus 2^-22 times |bias|; the portable kernel is exact.
template <class T>
using Gather = void(const std::uint8_t* rgb, std::size_t n, const Normalize& normalize,
                    T* const planes[3]);

// Index of the largest logit: the first of equals, and the first NaN where there is one.
template <class T>
using Argmax = void(const Views<T>& views, std::size_t n, std::uint8_t* labels);

// The labels of Argmax, and how sure they are. share: 1 / the number of tiles whose logits are in
// the sum of the views. Within half a unit and 255e-4 of the exact values, in every set.
template <class T>
using Confidence = void(const Views<T>& views, std::size_t n, float share, const Results& out);

// sums[x] = row[x], or += where not first.
template <class T>
using Accumulate = void(const T* row, std::size_t n, bool first, float* sums);

// counts[t * classes + p] += pixels of target t and prediction p. False if a target that is not
// ignore is >= classes, or its prediction is; then the counts are unspecified.
// scratch: confusion_scratch(classes) elements; their contents do not matter.
using Confusion = bool(const std::uint8_t* target, const std::uint8_t* predicted, std::size_t n,
                       unsigned classes, unsigned ignore, std::uint32_t* scratch,
                       std::int64_t* counts);

// Labels a leaf of every block of a batch that has a bit in any of the words: of the classes whose
// word has the block's bit, the first that has the largest logit. contenders: by class; labels:
// (kBatch, kLeaf * kLeaf), rows of kLeaf pixels. Pixels behind the rows and columns of the leaf get
// any label. No sum may overflow. Sets that round a product and its sum once give the same labels
// bit for bit: every set but scalar, and scalar where the processor has such an instruction.
using LabelLeaf = void(const Leaf& leaf, const std::uint64_t* contenders, std::uint8_t* labels);

// The logits that LabelLeaf compares, of all classes of the leaf, for the blocks of which there is a
// bit: (kBatch, classes of the leaf, kLeaf * kLeaf).
using LeafLogits = void(const Leaf& leaf, std::uint64_t blocks, float* logits);

// Finds classes that lose at every pixel of a part, whatever the order of sums.
using BoundPart = void(const PartBound& part, PartAnswer& answer);

// Elements that the confusion kernel works in.
std::size_t confusion_scratch(unsigned classes);

// The portable kernels. The other sets also use them for the last pixels of a call.
struct Scalar {
    static Decode decode;
    static Encode encode;
    static Overlay overlay;
    template <class T>
    static void gather(const std::uint8_t* rgb, std::size_t n, const Normalize& normalize,
                       T* const planes[3]);
    template <class T>
    static void argmax(const Views<T>& views, std::size_t n, std::uint8_t* labels);
    // Only the pixels [begin, end) of the views; labels is where the label of pixel 0 goes.
    template <class T>
    static void argmax_range(const Views<T>& views, std::size_t begin, std::size_t end,
                             std::uint8_t* labels);
    template <class T>
    static void confidence(const Views<T>& views, std::size_t n, float share, const Results& out);
    template <class T>
    static void accumulate(const T* row, std::size_t n, bool first, float* sums);
    static Confusion confusion;
    static LabelLeaf label_leaf;
    static LeafLogits leaf_logits;
    static BoundPart bound_part;
};

// A kernel that has a version for each of the types.
template <template <class> class Kernel, class... Types>
struct Versions {
    std::tuple<Kernel<Types>*...> all;

    template <class T>
    Kernel<T>& of() const {
        return *std::get<Kernel<T>*>(all);
    }
};

// The kernels of a set. The members are const: the compiler refuses a table that lacks one.
struct Table {
    const char* const name;
    Decode* const decode;
    Encode* const encode;
    Overlay* const overlay;
    const Versions<Gather, float, std::uint16_t> gather;
    const Versions<Argmax, float, Half, Brain> argmax;
    const Versions<Confidence, float, Half, Brain> confidence;
    const Versions<Accumulate, float, Half, Brain> accumulate;
    Confusion* const confusion;
    LabelLeaf* const label_leaf;
    LeafLogits* const leaf_logits;
    BoundPart* const bound_part;

    template <class Set>
    constexpr Table(const char* set, Set)
        : name(set),
          decode(Set::decode),
          encode(Set::encode),
          overlay(Set::overlay),
          gather{{Set::template gather<float>, Set::template gather<std::uint16_t>}},
          argmax{{Set::template argmax<float>, Set::template argmax<Half>,
                  Set::template argmax<Brain>}},
          confidence{{Set::template confidence<float>, Set::template confidence<Half>,
                      Set::template confidence<Brain>}},
          accumulate{{Set::template accumulate<float>, Set::template accumulate<Half>,
                      Set::template accumulate<Brain>}},
          confusion(Set::confusion),
          label_leaf(Set::label_leaf),
          leaf_logits(Set::leaf_logits),
          bound_part(Set::bound_part) {}
};

}  // namespace fcnkit

// Labels and logits of a leaf from class scores, over the registers of a set.
#pragma once

namespace fcnkit {

// V works on registers of kLanes floats, which are kLanes / kLeaf rows of a leaf. V::kBlocks blocks
// are computed at a time, so that weights are loaded once for all of them.
template <class V, class Base>
struct UpsampleLoops : Base {
    static void label_leaf(const Leaf& leaf, const std::uint64_t* contenders,
                           std::uint8_t* labels) {
        std::uint64_t all = 0;
        for (std::size_t k = 0; k < leaf.count; ++k) {
            const std::size_t c = leaf.classes[k];
            for (std::uint64_t news = contenders[c] & ~all; news != 0; news &= news - 1) {
                clear(leaf, lowest(news));
            }
            all |= contenders[c];
        }
        for (std::size_t k = 0; k < leaf.count; ++k) {
            const std::size_t c = leaf.classes[k];
            add_class(leaf, c, contenders[c], Largest{leaf.best, V::broadcast(static_cast<float>(c))});
        }
        for (; all != 0; all &= all - 1) {
            const std::size_t block = lowest(all);
            const float* best = leaf.best + block * 2 * kArea + kArea;
            std::uint8_t* to = labels + block * kArea;
            for (std::size_t k = 0; k < kArea; ++k) {
                to[k] = static_cast<std::uint8_t>(static_cast<int>(best[k]));
            }
        }
    }

    static void leaf_logits(const Leaf& leaf, std::uint64_t blocks, float* logits) {
        for (std::size_t k = 0; k < leaf.count; ++k) {
            add_class(leaf, leaf.classes[k], blocks, Every{logits + k * kArea, leaf.count * kArea});
        }
    }

   private:
    using Floats = typename V::Floats;
    static constexpr std::size_t kArea = kLeaf * kLeaf;

    // What becomes of the logits of a class. It is called with the block, the first pixel and a
    // register of logits.
    struct Largest {
        float* best;
        Floats label;

        void operator()(std::size_t block, std::size_t from, const Floats& logits) const {
            float* logit = best + block * 2 * kArea + from;
            const Floats before = V::load(logit), index = V::load(logit + kArea);
            const typename V::Mask larger = V::greater(logits, before);
            V::store(logit, V::select(larger, logits, before));
            V::store(logit + kArea, V::select(larger, label, index));
        }
    };

    struct Every {
        float* logits;
        std::size_t block_stride;

        void operator()(std::size_t block, std::size_t from, const Floats& values) const {
            V::store(logits + block * block_stride + from, values);
        }
    };

    static std::size_t lowest(std::uint64_t bits) {
#if defined(__GNUC__) || defined(__clang__)
        return static_cast<std::size_t>(__builtin_ctzll(bits));
#else
        std::size_t at = 0;
        for (; (bits & 1) == 0; bits >>= 1) {
            ++at;
        }
        return at;
#endif
    }

    static void clear(const Leaf& leaf, std::size_t block) {
        float* best = leaf.best + block * 2 * kArea;
        for (std::size_t k = 0; k < kArea; ++k) {
            best[k] = kLowest;
            best[kArea + k] = 0;
        }
    }

    template <class Keep>
    static void add_class(const Leaf& leaf, std::size_t c, std::uint64_t blocks, const Keep& keep) {
        while (blocks != 0) {
            std::size_t some[V::kBlocks], n = 0;
            for (; n < V::kBlocks && blocks != 0; blocks &= blocks - 1) {
                some[n++] = lowest(blocks);
            }
            add_blocks<V::kBlocks>(leaf, c, some, n, keep);
        }
    }

    // n of at most kCount blocks.
    template <std::size_t kCount, class Keep>
    static void add_blocks(const Leaf& leaf, std::size_t c, const std::size_t* blocks,
                           std::size_t n, const Keep& keep) {
        if constexpr (kCount > 1) {
            if (n < kCount) {
                add_blocks<kCount - 1>(leaf, c, blocks, n, keep);
                return;
            }
        }
        const std::size_t end = leaf.rows * kLeaf;
        std::size_t from = 0;
        for (; from + 3 * V::kLanes < end; from += 4 * V::kLanes) {
            add_rows<kCount, 4>(leaf, c, from, blocks, keep);
        }
        for (; from + V::kLanes < end; from += 2 * V::kLanes) {
            add_rows<kCount, 2>(leaf, c, from, blocks, keep);
        }
        if (from < end) {
            add_rows<kCount, 1>(leaf, c, from, blocks, keep);
        }
    }

    // kVectors registers of pixels of kCount blocks.
    template <std::size_t kCount, std::size_t kVectors, class Keep>
    static void add_rows(const Leaf& leaf, std::size_t c, std::size_t from,
                         const std::size_t* blocks, const Keep& keep) {
        Floats sums[kCount][kVectors];
        add_tile(leaf, 0, c, from, blocks, sums);
        for (std::size_t t = 1; t < leaf.tiles; ++t) {
            Floats more[kCount][kVectors];
            add_tile(leaf, t, c, from, blocks, more);
            FCNKIT_UNROLL
            for (std::size_t b = 0; b < kCount; ++b) {
                FCNKIT_UNROLL
                for (std::size_t v = 0; v < kVectors; ++v) {
                    sums[b][v] = V::add(sums[b][v], more[b][v]);
                }
            }
        }
        FCNKIT_UNROLL
        for (std::size_t b = 0; b < kCount; ++b) {
            FCNKIT_UNROLL
            for (std::size_t v = 0; v < kVectors; ++v) {
                keep(blocks[b], from + v * V::kLanes, sums[b][v]);
            }
        }
    }

    template <std::size_t kCount, std::size_t kVectors>
    static void add_tile(const Leaf& leaf, std::size_t t, std::size_t c, std::size_t from,
                         const std::size_t* blocks, Floats (&sums)[kCount][kVectors]) {
        if (leaf.spots[t].columns < kLeaf) {
            add_taps<true>(leaf, t, c, from, blocks, sums);
        } else {
            add_taps<false>(leaf, t, c, from, blocks, sums);
        }
    }

    // The logits of class c that tile t gives pixels of kCount blocks.
    template <bool kJoined, std::size_t kCount, std::size_t kVectors>
    static void add_taps(const Leaf& leaf, std::size_t t, std::size_t c, std::size_t from,
                         const std::size_t* blocks, Floats (&sums)[kCount][kVectors]) {
        const float* features[kCount];
        FCNKIT_UNROLL
        for (std::size_t b = 0; b < kCount; ++b) {
            features[b] = leaf.features +
                          (t * leaf.tile_features + c * leaf.first_tap) * kBatch + blocks[b];
            FCNKIT_UNROLL
            for (std::size_t v = 0; v < kVectors; ++v) {
                sums[b][v] = V::broadcast(leaf.bias[c]);
            }
        }
        const float* weights = leaf.spots[t].weights + c * leaf.class_stride + from;
        const float* behind = weights + leaf.strip_stride - kLeaf;
        const auto others = V::behind(leaf.spots[t].columns);
        for (std::size_t tap = 0; tap < leaf.taps; ++tap) {
            Floats feature[kCount];
            FCNKIT_UNROLL
            for (std::size_t b = 0; b < kCount; ++b) {
                feature[b] = V::broadcast(features[b][tap * kBatch]);
            }
            FCNKIT_UNROLL
            for (std::size_t v = 0; v < kVectors; ++v) {
                Floats weight = V::load(weights + v * V::kLanes);
                if constexpr (kJoined) {
                    weight = V::join(weight, behind + v * V::kLanes, others);
                }
                FCNKIT_UNROLL
                for (std::size_t b = 0; b < kCount; ++b) {
                    sums[b][v] = V::multiply_add(weight, feature[b], sums[b][v]);
                }
            }
            weights += leaf.tap_stride;
            behind += leaf.tap_stride;
        }
    }
};

}  // namespace fcnkit

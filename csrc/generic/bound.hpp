// Which classes can win somewhere in a part of a block, over the registers of a set.
//
// Let f be the logit of a class and g what bilinear interpolation makes of f at the corners of the
// part. Both are linear in the features, so |f - g| is at most r = the sum of |feature| * bound.
// A class loses to class A in the whole part if at each corner A leads by more than r of A and r of
// the class, because the difference of two interpolations is smallest at a corner. It loses to the
// better of A and B if their mean leads like that. Rounding is in the bounds and in the slack.
#pragma once

namespace fcnkit {

template <class V, class Base>
struct BoundLoops : Base {
    static void bound_part(const PartBound& part, PartAnswer& answer) {
        answer.decided = 0;
        for (std::size_t k = 0; k < part.count; ++k) {
            answer.contenders[part.classes[k]] = 0;
        }
        std::size_t first = 0;
        for (; first + V::kLanes < part.blocks; first += 2 * V::kLanes) {
            bound_blocks<2>(part, first, answer);
        }
        if (first < part.blocks) {
            bound_blocks<1>(part, first, answer);
        }
    }

   private:
    using Floats = typename V::Floats;
    using Mask = typename V::Mask;

    // What is known of a class: the logits at the corners, and r.
    struct Known {
        Floats corner[4], margin;

        static Known load(const float* from, std::size_t pitch) {
            Known known;
            FCNKIT_UNROLL
            for (std::size_t k = 0; k < 4; ++k) {
                known.corner[k] = V::load(from + k * pitch);
            }
            known.margin = V::load(from + 4 * pitch);
            return known;
        }

        Floats sum() const {
            return V::add(V::add(corner[0], corner[1]), V::add(corner[2], corner[3]));
        }
    };

    // kCount registers of blocks, a block in each lane.
    template <std::size_t kCount>
    static void bound_blocks(const PartBound& part, std::size_t first, PartAnswer& answer) {
        constexpr std::size_t kPitch = kCount * V::kLanes;
        for (std::size_t k = 0; k < part.count; ++k) {
            corners_of<kCount>(part, part.classes[k], first, part.scratch + k * 5 * kPitch);
        }
        for (std::size_t v = 0; v < kCount && first + v * V::kLanes < part.blocks; ++v) {
            const std::size_t at = first + v * V::kLanes, left = part.blocks - at;
            const std::uint64_t lanes = left >= V::kLanes ? (std::uint64_t{1} << V::kLanes) - 1
                                                          : (std::uint64_t{1} << left) - 1;
            decide(part, part.scratch + v * V::kLanes, kPitch, lanes, at, answer);
        }
    }

    // The logits of a class at the corners, and their margin.
    template <std::size_t kCount>
    static void corners_of(const PartBound& part, std::size_t c, std::size_t first, float* to) {
        Floats sums[5][kCount];
        const auto tiles = static_cast<float>(part.tiles);
        FCNKIT_UNROLL
        for (std::size_t v = 0; v < kCount; ++v) {
            FCNKIT_UNROLL
            for (std::size_t k = 0; k < 4; ++k) {
                sums[k][v] = V::broadcast(tiles * part.bias[c]);
            }
            sums[4][v] = V::broadcast(tiles * part.slack[c]);
        }
        for (std::size_t t = 0; t < part.tiles; ++t) {
            const float* bound = part.bounds[t] + c * part.taps * 5;
            const float* feature =
                part.features + (t * part.tile_features + c * part.first_tap) * kBatch + first;
            for (std::size_t tap = 0; tap < part.taps; ++tap) {
                FCNKIT_UNROLL
                for (std::size_t v = 0; v < kCount; ++v) {
                    const Floats value = V::load(feature + v * V::kLanes);
                    FCNKIT_UNROLL
                    for (std::size_t k = 0; k < 4; ++k) {
                        sums[k][v] = V::multiply_add(V::broadcast(bound[k]), value, sums[k][v]);
                    }
                    sums[4][v] =
                        V::multiply_add(V::broadcast(bound[4]), V::magnitude(value), sums[4][v]);
                }
                bound += 5;
                feature += kBatch;
            }
        }
        FCNKIT_UNROLL
        for (std::size_t k = 0; k < 5; ++k) {
            FCNKIT_UNROLL
            for (std::size_t v = 0; v < kCount; ++v) {
                V::store(to + (k * kCount + v) * V::kLanes, sums[k][v]);
            }
        }
    }

    static Known select(Mask mask, const Known& yes, const Known& no) {
        Known known;
        FCNKIT_UNROLL
        for (std::size_t k = 0; k < 4; ++k) {
            known.corner[k] = V::select(mask, yes.corner[k], no.corner[k]);
        }
        known.margin = V::select(mask, yes.margin, no.margin);
        return known;
    }

    static Known mean(const Known& a, const Known& b) {
        const Floats half = V::broadcast(0.5F);
        Known known;
        FCNKIT_UNROLL
        for (std::size_t k = 0; k < 4; ++k) {
            known.corner[k] = V::multiply(half, V::add(a.corner[k], b.corner[k]));
        }
        known.margin = V::multiply(half, V::add(a.margin, b.margin));
        return known;
    }

    // Where a class loses to the leader in all of the part. The factor covers the rounding of the
    // margins themselves.
    static Mask loses(const Known& known, const Known& leader) {
        Floats gap = V::subtract(leader.corner[0], known.corner[0]);
        FCNKIT_UNROLL
        for (std::size_t k = 1; k < 4; ++k) {
            gap = V::smaller(gap, V::subtract(leader.corner[k], known.corner[k]));
        }
        const Floats margin = V::multiply(V::broadcast(kMarginFactor),
                                          V::add(leader.margin, known.margin));
        return V::greater(gap, margin);
    }

    // One register of blocks, those from `first` on.
    static void decide(const PartBound& part, const float* known, std::size_t pitch,
                       std::uint64_t lanes, std::size_t first, PartAnswer& answer) {
        const auto of = [&](std::size_t k) { return Known::load(known + k * 5 * pitch, pitch); };
        Known best = of(0);
        Floats sum = best.sum(), index = V::broadcast(0);
        for (std::size_t k = 1; k < part.count; ++k) {
            const Known other = of(k);
            const Mask larger = V::greater(other.sum(), sum);
            best = select(larger, other, best);
            sum = V::select(larger, other.sum(), sum);
            index = V::select(larger, V::broadcast(static_cast<float>(k)), index);
        }
        std::uint64_t one = 0, more = 0;  // blocks with a contender, and with more than that
        for (std::size_t k = 0; k < part.count; ++k) {
            const std::uint64_t left = lanes & ~V::bits(loses(of(k), best));
            answer.contenders[part.classes[k]] |= left << first;
            more |= one & left;
            one |= left;
        }
        answer.decided |= (lanes & ~more) << first;
        if (more != 0) {
            thin_out(part, known, pitch, best, index, first, answer);
        }
    }

    // Removes what loses to the second largest sum of those left, or to the mean of the two.
    static void thin_out(const PartBound& part, const float* known, std::size_t pitch,
                         const Known& best, Floats index, std::size_t first, PartAnswer& answer) {
        const auto of = [&](std::size_t k) { return Known::load(known + k * 5 * pitch, pitch); };
        const Floats none = V::broadcast(kLowest);
        Known second = best;
        Floats sum = none;
        for (std::size_t k = 0; k < part.count; ++k) {
            const Known other = of(k);
            const Floats apart =
                V::magnitude(V::subtract(index, V::broadcast(static_cast<float>(k))));
            const Floats able = V::select(loses(other, best), none, other.sum());
            const Floats rival = V::select(V::greater(apart, V::broadcast(0)), able, none);
            const Mask larger = V::greater(rival, sum);
            second = select(larger, other, second);
            sum = V::select(larger, rival, sum);
        }
        const Known both = mean(best, second);
        for (std::size_t k = 0; k < part.count; ++k) {
            const Known other = of(k);
            const std::uint64_t lost =
                V::bits(loses(other, second)) | V::bits(loses(other, both));
            answer.contenders[part.classes[k]] &= ~(lost << first);
        }
    }
};

}  // namespace fcnkit

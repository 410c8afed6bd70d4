// The loops that sets share, over the registers of a set. A set.cpp includes this file inside the
// region that is compiled for its set. So the files of generic/ include nothing from elsewhere.
#pragma once

#include "generic/bound.hpp"
#include "generic/color.hpp"
#include "generic/confidence.hpp"
#include "generic/gather.hpp"
#include "generic/logits.hpp"
#include "generic/upsample.hpp"

namespace fcnkit {

template <class ColorVectors, class GatherVectors, class LogitVectors, class UpsampleVectors>
using Loops = ColorLoops<
    ColorVectors,
    GatherLoop<GatherVectors,
               ConfidenceLoop<LogitLoops<
                   LogitVectors,
                   UpsampleLoops<UpsampleVectors, BoundLoops<UpsampleVectors, Scalar>>>>>>;

}  // namespace fcnkit

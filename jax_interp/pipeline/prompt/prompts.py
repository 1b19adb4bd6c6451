"""The default texts: upstream's negative prompt and the instruction of the prompt upsampler."""

DEFAULT_NEGATIVE_PROMPT = (
    "The video captures a series of frames showing ugly scenes, static with no motion, motion blur, over-saturation, "
    "shaky footage, low resolution, grainy texture, pixelated images, poorly lit areas, underexposed and overexposed "
    "scenes, poor color balance, washed out colors, choppy sequences, jerky movements, low frame rate, artifacting, "
    "color banding, unnatural transitions, outdated special effects, fake elements, unconvincing visuals, poorly "
    "edited content, jump cuts, visual noise, and flickering. Overall, the video is of poor quality."
)
"""Upstream's published negative prompt. At the default guidance of -1 it is the only text with an effect."""

UPSAMPLER_INSTRUCTION = (
    "This picture is the last frame of a short video clip. Write the description that a viewer would give of the whole "
    "clip, in one paragraph of plain prose and at most 150 words. Say who or what is seen and where, how things look "
    "(materials, colors, light, time of day), how each of them moves, and how the camera moves or that it rests. Stay "
    "with what the picture shows or plainly implies, and name no frame, picture or instruction. Answer with the "
    "description alone."
)
"""The default instruction of the prompt upsampler."""

// Prompts with regions. Pure.

/** Is the mask for a region, as of "painted: ink | rest: photo"? */
export const paintsRegion = (prompt = "") => prompt.includes("|") && /(^|\|)\s*painted\s*:/i.test(prompt);

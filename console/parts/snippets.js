/** A chat request as a program in four languages. Its key comes from the environment, as SAMPAN_API_KEY. */

/** @param {Record<string, unknown>} body */
export function snippets(body) {
  const base = `${location.origin}/v1`;
  const json = JSON.stringify(body, null, 2);
  const shell = json.replaceAll("'", "'\\''");
  return {
    curl: `curl ${base}/chat/completions \\\n  -H 'content-type: application/json' \\\n  -H "authorization: Bearer $SAMPAN_API_KEY" \\\n  -d '${shell}'`,
    Python: `import os\n\nfrom openai import OpenAI\n\nclient = OpenAI(base_url="${base}", api_key=os.environ.get("SAMPAN_API_KEY", "none"))\nanswer = client.chat.completions.create(\n${pythonArguments(body)}\n)\nprint(answer.choices[0].message.content)`,
    TypeScript: `import OpenAI from "openai";\n\nconst client = new OpenAI({ baseURL: "${base}", apiKey: process.env.SAMPAN_API_KEY ?? "none" });\nconst answer = await client.chat.completions.create(${json});\nconsole.log(answer.choices[0].message.content);`,
    Rust: `// cargo add reqwest --features blocking,json; cargo add serde_json\nfn main() -> Result<(), Box<dyn std::error::Error>> {\n    let body = serde_json::json!(${json.replaceAll("\n", "\n    ")});\n    let answer: serde_json::Value = reqwest::blocking::Client::new()\n        .post("${base}/chat/completions")\n        .bearer_auth(std::env::var("SAMPAN_API_KEY").unwrap_or_default())\n        .json(&body)\n        .send()?\n        .error_for_status()?\n        .json()?;\n    println!("{}", answer["choices"][0]["message"]["content"]);\n    Ok(())\n}`,
  };
}

/** Fields that OpenAI's client for Python knows; others travel in `extra_body`. */
const KNOWN = new Set(["model", "messages", "temperature", "top_p", "max_tokens", "seed", "stop", "tools", "response_format", "presence_penalty", "frequency_penalty"]);

/** @param {Record<string, unknown>} body */
function pythonArguments(body) {
  const known = Object.entries(body).filter(([name]) => KNOWN.has(name)).map(([name, value]) => `    ${name}=${python(value)},`);
  const extra = Object.fromEntries(Object.entries(body).filter(([name]) => !KNOWN.has(name)));
  if (Object.keys(extra).length > 0) known.push(`    extra_body=${python(extra)},`);
  return known.join("\n");
}

/**
 * @param {unknown} value
 * @returns {string}
 */
function python(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, inner]) => `${JSON.stringify(name)}: ${python(inner)}`).join(", ")}}`;
  return JSON.stringify(value);
}

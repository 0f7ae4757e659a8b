// Rules that find mistakes; no plugin, so that the check needs nothing but eslint itself.
export default [{ ignores: ["**/vendor/**"] }, {
  basePath: new URL("..", import.meta.url).pathname,
  files: ["**/*.js"],
  rules: {
    "eqeqeq": "error", "no-implicit-globals": "error", "no-unused-vars": "error", "no-var": "error", "prefer-const": "error",
    "no-eval": "error", "no-implied-eval": "error", "no-new-func": "error", "no-console": "error", "no-debugger": "error",
    "no-constant-binary-expression": "error", "no-self-compare": "error", "no-unreachable": "error", "no-shadow": "error",
    "max-lines": ["error", 600], "max-lines-per-function": ["error", 90],
    "no-restricted-syntax": ["error", { selector: "MemberExpression[property.name='outerHTML']", message: "build elements" }],
  },
}];

//! README.md shows the example that compiles.

#[test]
fn the_module_in_the_readme_is_the_example() {
    let example = include_str!("../examples/hello_module.rs");
    let readme = include_str!("../../README.md");
    let (_, rest) = example.split_once("// README: begin\n").expect("the mark");
    let (shown, _) = rest.split_once("// README: end").expect("the mark");
    assert!(
        readme.contains(&format!("```rust\n{shown}```\n")),
        "README.md differs from cli/examples/hello_module.rs"
    );
}

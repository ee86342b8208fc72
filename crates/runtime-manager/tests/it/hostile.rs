//! Manifests that nobody sane writes: an answer always comes, and it is never a panic.

use corten_runtime_manager::manifest;
use corten_runtime_manager::translate::dns::Resolver;
use corten_runtime_manager::translate::quantity::Quantity;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,400}") {
        let _ = manifest::parse("x", &text);
        let _ = Quantity::parse(&text);
        let _ = Resolver::parse(&text);
    }

    #[test]
    fn any_value_in_any_field_is_read_or_refused(
        field in prop::sample::select(vec![
            "command", "env", "ports", "resources", "volumeMounts", "securityContext", "image", "restartPolicy",
            "livenessProbe", "terminationMessagePath", "nonsense",
        ]),
        value in prop::sample::select(vec![
            "null", "{}", "[]", "1", "-1", "x", "true", "[{}]", "[null]", "{a: {b: [1]}}", "[[[[]]]]", "1e400", "'\\0'",
            "{limits: {cpu: -1}}", "{limits: []}", "[{name: v}]", "[{containerPort: 99999999999}]",
        ]),
    ) {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n  containers:\n  - name: c\n    image: i\n    {field}: {value}\n"
        );
        let _ = manifest::parse("x", &text);
    }

    #[test]
    fn a_quantity_that_is_read_is_not_negative_and_keeps_its_order(a in 0u32..1_000_000, b in 0u32..1_000_000) {
        let read = |n: u32| Quantity::parse(&format!("{n}m")).unwrap();
        prop_assert_eq!(read(a).milli(), i64::from(a));
        prop_assert_eq!(read(a) < read(b), a < b);
    }
}

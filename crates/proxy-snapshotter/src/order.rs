//! Layers in the order in which they can be removed: each before the one that it stands on. Pure.

use std::collections::HashMap;

/// Takes names with the names of their parents. What claims to stand on itself comes last.
pub fn tops_first(layers: &[(String, String)]) -> Vec<&str> {
    let places: HashMap<&str, usize> =
        layers.iter().enumerate().map(|(at, (name, _))| (name.as_str(), at)).collect();
    let below: Vec<Option<usize>> =
        layers.iter().map(|(_, parent)| places.get(parent.as_str()).copied()).collect();
    // How many stand on each.
    let mut above = vec![0_usize; layers.len()];
    for at in below.iter().flatten() {
        above[*at] += 1;
    }
    let mut free: Vec<usize> = (0..layers.len()).filter(|at| above[*at] == 0).collect();
    let mut order = Vec::with_capacity(layers.len());
    while let Some(at) = free.pop() {
        order.push(at);
        if let Some(parent) = below[at] {
            above[parent] -= 1;
            if above[parent] == 0 {
                free.push(parent);
            }
        }
    }
    order.extend((0..layers.len()).filter(|at| above[*at] > 0));
    order.into_iter().map(|at| layers[at].0.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_stands_on_another_comes_before_it_and_circles_end() {
        let pairs = [
            ("a", ""),
            ("c", "b"),
            ("b", "a"),
            ("d", "b"),
            ("e", "gone"),
            ("x", "y"),
            ("y", "x"),
            ("z", "z"),
        ];
        let layers: Vec<_> = pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let order = tops_first(&layers);
        let place = |name: &str| order.iter().position(|other| *other == name).expect("all are there");
        assert_eq!(order.len(), pairs.len());
        assert!(place("c") < place("b") && place("d") < place("b") && place("b") < place("a"), "{order:?}");
        for circle in ["x", "y", "z"] {
            assert!(place(circle) >= 5, "{order:?}");
        }
        assert!(tops_first(&[]).is_empty());
    }
}

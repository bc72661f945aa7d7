//! Calls that say of themselves, by a tag beside them, for whom they are.

use super::stage::{Ask, Stage};

/// As a route that matches the tag has it.
pub(crate) fn a_route_reads_the_tag(stage: &mut Stage) {
    for turn in 0..2 {
        let (gray, other, none) = (format!("gray-{turn}"), format!("blue-{turn}"), format!("none-{turn}"));
        stage.call(&Ask::through("tagged", &gray).beside("dubbo.tag", "gray")).is_from("second", &gray);
        stage.call(&Ask::through("tagged", &other).beside("dubbo.tag", "blue")).is_from("first", &other);
        stage.call(&Ask::through("tagged", &none)).is_from("first", &none);
    }
}

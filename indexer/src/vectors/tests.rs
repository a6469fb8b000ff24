use bundle::{
    Error,
    vectors::{HnswGraphs, HnswInfo, MATRIX, NODE_ROWS, Vectors},
};

use super::*;

/// One graph that a search of 4000 rows uses: it visits 15 rows, each at the price of 110 rows of an exact search.
const SMALL: Hnsw = Hnsw { from_rows: 0, graph_rows: 4000, connectivity: 16, expansion_add: 128, expansion_search: 15 };

const HNSW: Hnsw = Hnsw { from_rows: 0, graph_rows: 700, connectivity: 16, expansion_add: 128, expansion_search: 64 };

/// Unit vectors without a pattern.
fn matrix(rows: usize, dimension: usize) -> Vec<Vec<f32>> {
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let unit = |row: Vec<f32>| {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.into_iter().map(|x| x / norm).collect()
    };
    (0..rows).map(|_| unit((0..dimension).map(|_| next()).collect())).collect()
}

/// Vectors that are no rows of the matrix of so many rows.
fn others(rows: usize, count: usize, dimension: usize) -> Vec<Vec<f32>> {
    matrix(rows + count, dimension).split_off(rows)
}

fn written(rows: &[Vec<f32>]) -> (tempfile::TempDir, Vectors) {
    let dir = tempfile::tempdir().unwrap();
    let dimension = rows[0].len();
    let mut writer = MatrixWriter::create(dir.path(), rows.len(), dimension).unwrap();
    rows.iter().for_each(|row| writer.write(row).unwrap());
    writer.finish().unwrap();
    let vectors = Vectors::open(dir.path(), rows.len(), dimension).unwrap();
    (dir, vectors)
}

fn built(threads: usize) -> (tempfile::TempDir, HnswInfo) {
    let (dir, vectors) = written(&matrix(2000, 32));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let mut info = pool.install(|| build(&vectors, &HNSW, dir.path(), || ())).unwrap();
    info.recall_at_10 = recall(&vectors.with_hnsw(dir.path(), &info, 2).unwrap()).unwrap();
    (dir, info)
}

fn open(dir: &tempfile::TempDir, info: &HnswInfo, threads: usize) -> Vectors {
    Vectors::open(dir.path(), 2000, 32).unwrap().with_hnsw(dir.path(), info, threads).unwrap()
}

#[test]
fn a_search_finds_the_rows_of_brute_force() {
    let (_dir, vectors) = written(&matrix(3000, 48));
    let even: Vec<bool> = (0..3000).map(|row| row % 2 == 0).collect();
    for query in others(3000, 20, 48) {
        let found = vectors.search(&query, 10, Some(&even)).unwrap();
        assert_eq!(found, vectors.search_exact(&query, 10, Some(&even)).unwrap());
        assert!(found.iter().all(|(row, _)| row % 2 == 0));
        assert_eq!(found.len(), 10);
    }
}

#[test]
fn a_vector_that_is_not_finite_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = MatrixWriter::create(dir.path(), 1, 4).unwrap();
    assert!(writer.write(&[f32::NAN; 4]).is_err() && writer.write(&[1.0; 3]).is_err());
    assert!(writer.finish().is_err(), "a row is missing");
}

#[test]
fn a_matrix_of_another_size_is_damaged() {
    let (dir, _) = written(&[vec![1.0, 0.0, 0.0, 0.0], vec![0.0, 1.0, 0.0, 0.0]]);
    let is_damaged = |rows| matches!(Vectors::open(dir.path(), rows, 4), Err(Error::Damaged { .. }));
    assert!(!is_damaged(2) && is_damaged(3));
    let path = dir.path().join(MATRIX);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(is_damaged(2));
}

#[test]
fn graphs_have_the_same_bytes_on_any_number_of_threads() {
    let ((dir, info), (other, same)) = (built(1), built(2));
    assert_eq!((info.files.len(), &info), (3, &same));
    for file in &info.files {
        assert!(std::fs::read(dir.path().join(&file.name)).unwrap() == std::fs::read(other.path().join(&file.name)).unwrap());
    }
}

#[test]
fn graphs_find_the_nearest_rows_also_with_a_filter() {
    let (dir, info) = built(2);
    assert!(info.recall_at_10 > 0.95, "{info:?}");
    let vectors = open(&dir, &info, 2);
    let half: Vec<bool> = (0..2000).map(|row| row % 2 == 0).collect();
    for allowed in [None, Some(&half[..])] {
        let (mut found, mut all) = (0, 0);
        for query in others(2000, 40, 32) {
            let approximate = vectors.search_hnsw(vectors.hnsw().unwrap(), &query, 10, allowed).unwrap();
            let exact = vectors.search_exact(&query, 10, allowed).unwrap();
            assert!(approximate.iter().all(|(row, _)| allowed.is_none_or(|rows| rows[*row as usize])));
            found += exact.iter().filter(|scored| approximate.contains(scored)).count();
            all += exact.len();
        }
        assert!(found * 100 > all * 95, "{found} of {all}");
    }
}

/// 4000 rows with a graph in which row 7 is elsewhere than in the matrix: an exact search finds it by its own vector, the graph does not.
fn with_a_wrong_graph() -> (tempfile::TempDir, Vectors, Vec<f32>) {
    let mut rows = matrix(4000, 32);
    let query = rows[7].clone();
    rows[7].iter_mut().for_each(|value| *value = -*value);
    let (wrong, vectors) = written(&rows);
    let info = build(&vectors, &SMALL, wrong.path(), || ()).unwrap();
    rows[7].clone_from(&query);
    let (dir, vectors) = written(&rows);
    let vectors = vectors.with_hnsw(wrong.path(), &info, 1).unwrap();
    std::fs::rename(wrong.path().join(&info.files[0].name), dir.path().join(&info.files[0].name)).unwrap();
    (dir, vectors, query)
}

#[test]
fn a_search_uses_the_graphs_where_they_are_faster() {
    let (_dir, vectors, query) = with_a_wrong_graph();
    let best = |k: usize, allowed: Option<&[bool]>| vectors.search(&query, k, allowed).unwrap()[0].0;
    assert_eq!(vectors.search_exact(&query, 1, None).unwrap()[0].0, 7);
    assert!(vectors.graphs_for(5, None).is_some());
    assert_ne!(best(5, None), 7, "the graph does not find row 7");
    // More rows are visited for more results, and an exact search of few allowed rows is faster.
    assert!(vectors.graphs_for(30, None).is_none());
    assert_eq!(best(30, None), 7);
    let [half, few] = [2, 10].map(|share| (0..4000).map(|row| row % share == 7 % share).collect::<Vec<bool>>());
    assert!(vectors.graphs_for(5, Some(&half)).is_some() && vectors.graphs_for(5, Some(&few)).is_none());
    assert_ne!(best(5, Some(&half)), 7);
    assert_eq!(best(5, Some(&few)), 7);
    let (_dir, without) = written(&matrix(4000, 32));
    assert!(without.graphs_for(5, None).is_none());
}

#[test]
fn a_search_with_graphs_finds_allowed_rows_and_one_of_each_group() {
    let (dir, vectors) = written(&matrix(4000, 32));
    let info = build(&vectors, &SMALL, dir.path(), || ()).unwrap();
    let vectors = vectors.with_hnsw(dir.path(), &info, 1).unwrap();
    let half: Vec<bool> = (0..4000).map(|row| row % 2 == 0).collect();
    let group_of = |row: u32| row / 400;
    // The queries are no rows of the matrix.
    for query in others(4000, 40, 32) {
        assert!(vectors.graphs_for(5, Some(&half)).is_some(), "an exact search would show nothing about the graphs");
        let found = vectors.search(&query, 5, Some(&half)).unwrap();
        assert_eq!(found.len(), 5);
        assert!(found.iter().all(|(row, _)| half[*row as usize]), "{found:?}");
        assert!(found.is_sorted_by(|a, b| a.1 >= b.1), "{found:?}");
        let distinct = vectors.search_distinct(&query, 5, Some(&half), Some(&group_of)).unwrap();
        let groups: std::collections::BTreeSet<u32> = distinct.iter().map(|(row, _)| group_of(*row)).collect();
        assert!(!distinct.is_empty() && groups.len() == distinct.len() && distinct[0] == found[0], "{distinct:?}");
        assert!(distinct.iter().all(|(row, _)| half[*row as usize]), "{distinct:?}");
    }
}

#[test]
fn graphs_are_searched_by_as_many_threads_as_they_were_opened_for() {
    let (dir, info) = built(1);
    let vectors = open(&dir, &info, 24);
    let queries = matrix(24, 32);
    std::thread::scope(|scope| {
        for query in &queries {
            let graphs = vectors.hnsw().unwrap();
            scope.spawn(|| (0..200).for_each(|_| assert_eq!(vectors.search_hnsw(graphs, query, 5, None).unwrap().len(), 5)));
        }
    });
}

#[test]
fn a_graph_that_is_damaged_or_not_of_the_manifest_is_refused() {
    let (dir, info) = built(1);
    let open = |info: &HnswInfo, rows, dimension| HnswGraphs::open(dir.path(), info, rows, dimension, 1).map(|_| ());
    open(&info, 2000, 32).unwrap();
    assert!(open(&info, 2000, 64).is_err() && open(&info, 2001, 32).is_err());
    let mut outside = info.clone();
    outside.files[0].name = "../hnsw-0.usearch".to_owned();
    assert!(open(&outside, 2000, 32).unwrap_err().to_string().contains("not a file name"));
    let path = dir.path().join(&info.files[1].name);
    let bytes = std::fs::read(&path).unwrap();
    let same_length = vec![7u8; bytes.len()];
    for damaged in [&bytes[..bytes.len() / 2], &[0u8; 10], b"", &same_length] {
        std::fs::write(&path, damaged).unwrap();
        assert!(matches!(open(&info, 2000, 32), Err(Error::Damaged { file, .. }) if file == path));
    }
}

#[test]
fn a_search_visits_as_many_rows_as_configured() {
    let (dir, vectors) = written(&matrix(4000, 32));
    let mut info = build(&vectors, &Hnsw { graph_rows: 4000, connectivity: 3, ..HNSW }, dir.path(), || ()).unwrap();
    let mut found = |expansion: usize| {
        info.expansion_search = expansion;
        let vectors = Vectors::open(dir.path(), 4000, 32).unwrap().with_hnsw(dir.path(), &info, 1).unwrap();
        let is_best = |query: &&Vec<f32>| {
            vectors.search_hnsw(vectors.hnsw().unwrap(), query, 1, None).unwrap() == vectors.search_exact(query, 1, None).unwrap()
        };
        others(4000, 40, 32).iter().filter(is_best).count()
    };
    let (few, many) = (found(1), found(1000));
    assert!(few + 5 < many, "{few} and {many} of 40");
}

/// The order of i8 codes differs from that of the vectors: more candidates than wanted are ranked again.
#[test]
fn a_search_that_visits_every_row_of_a_graph_finds_the_rows_of_brute_force() {
    let (dir, vectors) = written(&matrix(2000, 32));
    let info = build(&vectors, &Hnsw { graph_rows: 2000, expansion_search: 2000, ..HNSW }, dir.path(), || ()).unwrap();
    let vectors = vectors.with_hnsw(dir.path(), &info, 1).unwrap();
    for query in others(2000, 40, 32) {
        let found = vectors.search_hnsw(vectors.hnsw().unwrap(), &query, 10, None).unwrap();
        assert_eq!(found, vectors.search_exact(&query, 10, None).unwrap());
    }
}

/// Rows 0 to 1999 of the earlier bundle as `kept` maps them, then `added` new ones; and the graphs after a build that extends the earlier
/// ones.
fn extended(kept: impl Fn(usize) -> bool, added: usize, hnsw: &Hnsw) -> (tempfile::TempDir, Vec<Vec<f32>>, Option<HnswInfo>) {
    let (earlier_dir, earlier_info) = built(2);
    let earlier = EarlierGraphs::open(earlier_dir.path(), &earlier_info, 2000, 32).unwrap();
    let all = matrix(2000 + added, 32);
    // In another order: the rows of a bundle move when functions come and go.
    let rows: Vec<Vec<f32>> = (0..2000 + added).rev().filter(|row| *row >= 2000 || kept(*row)).map(|row| all[row].clone()).collect();
    let (dir, vectors) = written(&rows);
    let plan = GraphPlan::of(&earlier, &vectors, hnsw, |_| true).unwrap();
    let info = plan.map(|plan| extend(&vectors, hnsw, plan, dir.path(), || ()).unwrap());
    (dir, rows, info)
}

#[test]
fn kept_graphs_and_rows_without_a_graph_find_the_rows_of_brute_force() {
    // Graphs of 700 rows: 70 new rows are searched exactly, 71 have a graph of their own.
    for (added, files, without_node) in [(70, 3, 70), (71, 4, 0)] {
        let exhaustive = Hnsw { expansion_search: 2000, ..HNSW };
        let (dir, rows, info) = extended(|row| row % 7 != 3, added, &exhaustive);
        let info = info.unwrap();
        assert_eq!(info.files.len(), files);
        let vectors = Vectors::open(dir.path(), rows.len(), 32).unwrap().with_hnsw(dir.path(), &info, 2).unwrap();
        let graphs = vectors.hnsw().unwrap();
        assert_eq!(graphs.without_node().len(), without_node);
        let even: Vec<bool> = (0..rows.len()).map(|row| row % 2 == 0).collect();
        for query in others(3000, 20, 32) {
            for allowed in [None, Some(&*even)] {
                let exact = vectors.search_exact(&query, 10, allowed).unwrap();
                assert_eq!(vectors.search_hnsw(graphs, &query, 10, allowed).unwrap(), exact);
            }
        }
    }
}

#[test]
fn a_graph_with_many_deleted_rows_is_not_kept() {
    let (_dir, rows, info) = extended(|row| row >= 700 || row % 2 == 0, 0, &HNSW);
    let info = info.unwrap();
    assert_eq!(info.files.iter().map(|file| file.rows).collect::<Vec<_>>(), [700, 600, 350], "the rows of the first graph have a new one");
    assert_eq!((info.nodes, rows.len()), (Some(1650), 1650));
    assert!(extended(|row| row % 2 == 0, 0, &HNSW).2.is_none(), "no graph is kept");
    assert!(extended(|_| true, 0, &Hnsw { connectivity: 8, ..HNSW }).2.is_none(), "graphs of other settings are not kept");
}

#[test]
fn rows_with_equal_vectors_have_a_node_each() {
    let (earlier_dir, rows) = (tempfile::tempdir().unwrap(), [vec![1.0, 0.0], vec![0.0, 1.0], vec![1.0, 0.0]]);
    let mut writer = MatrixWriter::create(earlier_dir.path(), 3, 2).unwrap();
    rows.iter().for_each(|row| writer.write(row).unwrap());
    writer.finish().unwrap();
    let info = build(&Vectors::open(earlier_dir.path(), 3, 2).unwrap(), &HNSW, earlier_dir.path(), || ()).unwrap();
    let earlier = EarlierGraphs::open(earlier_dir.path(), &info, 3, 2).unwrap();
    let (_dir, vectors) = written(&[vec![1.0, 0.0], vec![1.0, 0.0], vec![1.0, 0.0], vec![0.0, 1.0]]);
    let plan = GraphPlan::of(&earlier, &vectors, &HNSW, |_| true).unwrap().unwrap();
    assert_eq!((plan.kept[0].rows.clone(), plan.other_rows.clone()), (vec![0, 3, 1], vec![2]));
    assert!(GraphPlan::of(&earlier, &vectors, &HNSW, |_| false).unwrap().is_none(), "a damaged graph is not kept");
}

#[test]
fn node_rows_that_cannot_be_right_are_refused() {
    let (dir, rows, info) = extended(|_| true, 5, &HNSW);
    let info = info.unwrap();
    let open = |info: &HnswInfo| Vectors::open(dir.path(), rows.len(), 32).unwrap().with_hnsw(dir.path(), info, 1);
    open(&info).unwrap();
    assert!(matches!(open(&HnswInfo { nodes: Some(1999), ..info.clone() }), Err(Error::Damaged { .. })));
    for bad in [2005u32, 1] {
        crate::npy::write(&dir.path().join(NODE_ROWS), &vec![bad; 2000]).unwrap();
        assert!(matches!(open(&info), Err(Error::Damaged { .. })), "a row that is none, or has two nodes");
    }
}

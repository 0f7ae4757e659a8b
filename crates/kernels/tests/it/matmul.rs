use std::sync::Arc;

use kernels::{
    Cpu, Format, Gated, Gathered, Isa, Matrix, Memory, PACKED_VERSION, PANEL_ROWS, Precision, Role, Rows, Scratch,
    SharedBytes, dequantize, feed_forward, matmul, matmul_add, matmul_gathered, matmul_group, swiglu,
};

use crate::random::{Random, assert_close, cpu, cpus};

/// f32 sums of a few hundred products of numbers below one.
const EXACT: f64 = 1e-6;
/// Eight bits of mantissa on each side.
const BF16: f64 = 8e-3;
/// Seven bits of activations under a scale for 32 numbers.
const INT8: f64 = 1e-2;

/// Valid bytes of `rows` rows: random numbers, scales small and finite.
fn blocks(random: &mut Random, format: Format, rows: usize, columns: usize) -> Vec<u8> {
    let count = rows * format.row_bytes(columns).unwrap() / format.block_bytes();
    let halves: &[usize] = match format {
        Format::F32 | Format::Bf16 | Format::F16 | Format::Mxfp4 | Format::Iq1M => &[],
        Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => &[0, 2],
        Format::Q2K => &[80, 82],
        Format::Q3K => &[108],
        Format::Q6K => &[208],
        Format::Tq1_0 => &[52],
        Format::Tq2_0 => &[64],
        _ => &[0],
    };
    let mut bytes = Vec::new();
    for _ in 0..count {
        let value = random.float();
        let start = bytes.len();
        match format {
            Format::F32 => bytes.extend(value.to_le_bytes()),
            Format::F16 => bytes.extend(half::f16::from_f32(value).to_le_bytes()),
            Format::Bf16 => bytes.extend(half::bf16::from_f32(value).to_le_bytes()),
            _ => bytes.extend((0..format.block_bytes()).map(|_| random.next() as u8)),
        }
        if format == Format::Iq1M {
            // The f16 0.01 in the upper four bits of four words.
            for (i, word) in half::f16::from_f32(0.01).to_bits().to_le_bytes().into_iter().enumerate() {
                bytes[start + 49 + 4 * i] = bytes[start + 49 + 4 * i] & 15 | word << 4;
                bytes[start + 51 + 4 * i] = bytes[start + 51 + 4 * i] & 15 | word & 0xF0;
            }
        }
        if format == Format::Mxfp4 {
            bytes[start] = 120;
        }
        for at in halves {
            let scale = half::f16::from_f32(0.01 + 0.02 * random.float().abs());
            bytes[start + at..start + at + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    bytes
}

struct Case {
    values: Vec<f32>,
    matrix: Matrix,
}

fn case(cpu: &Cpu, random: &mut Random, format: Format, rows: usize, columns: usize, precision: Precision) -> Case {
    let bytes = blocks(random, format, rows, columns);
    let mut values = vec![0.0; rows * columns];
    dequantize(format, &bytes, &mut values).unwrap();
    Case { values, matrix: Matrix::pack(cpu, format, rows, columns, &bytes, precision).unwrap() }
}

fn product(x: &[f32], w: &[f32], columns: usize) -> Vec<f64> {
    let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
    x.chunks(columns).flat_map(|x| w.chunks(columns).map(move |w| dot(x, w))).collect()
}

fn tolerance(format: Format, precision: Precision) -> f64 {
    match (precision, format) {
        (Precision::Exact, _) => EXACT,
        (
            Precision::Fast,
            Format::Q8_0 | Format::Q4_0 | Format::Q5_0 | Format::Iq4Nl | Format::Q4K | Format::Q5K | Format::Q6K,
        ) => INT8,
        (Precision::Fast, _) => BF16,
    }
}

fn columns_of(random: &mut Random, format: Format) -> usize {
    match format.block_elements() {
        1 => 1 + random.below(150),
        block => block * (1 + random.below(if block == 32 { 7 } else { 3 })),
    }
}

#[test]
fn every_format_on_odd_shapes() {
    let mut random = Random(1);
    for cpu in cpus() {
        let mut scratch = Scratch::new();
        for format in Format::ALL {
            for precision in [Precision::Exact, Precision::Fast] {
                for n in [1, 2, 3, 5, 16, 17, 37] {
                    let (rows, columns) = (20 + random.below(70), columns_of(&mut random, format));
                    let case = case(&cpu, &mut random, format, rows, columns, precision);
                    let x = random.floats(n * columns);
                    let expected = product(&x, &case.values, columns);
                    for rows_of in [Rows::prompt, Rows::generated] {
                        let mut y = vec![f32::NAN; n * rows];
                        matmul(&cpu, rows_of(&x), &case.matrix, &mut y, &mut scratch);
                        let what = format!("{cpu:?} {format:?} {precision:?} {n} x {columns} x {rows}");
                        assert_close(&y, &expected, tolerance(format, precision), &what);
                    }
                }
            }
        }
    }
}

/// Weights and activations as large as they get, whose products add up to what narrow sums just hold.
#[test]
fn the_largest_numbers_fit_every_sum() {
    let formats = [Format::Q8_0, Format::Q4_0, Format::Q4K, Format::Q5K, Format::Q6K];
    for cpu in cpus() {
        let mut scratch = Scratch::new();
        for (format, byte) in formats.into_iter().flat_map(|format| [0x00, 0x7f, 0x80, 0xff].map(|byte| (format, byte)))
        {
            let (rows, columns) = (PANEL_ROWS + 1, 512);
            let mut bytes = blocks(&mut Random(3), format, rows, columns);
            let kept: &[usize] = match format {
                Format::Q4K | Format::Q5K => &[0, 1, 2, 3],
                Format::Q6K => &[208, 209],
                _ => &[0, 1],
            };
            for block in bytes.chunks_exact_mut(format.block_bytes()) {
                block.iter_mut().enumerate().filter(|(at, _)| !kept.contains(at)).for_each(|(_, out)| *out = byte);
            }
            let mut values = vec![0.0; rows * columns];
            dequantize(format, &bytes, &mut values).unwrap();
            let matrix = Matrix::pack(&cpu, format, rows, columns, &bytes, Precision::Fast).unwrap();
            for n in [1, 9, 17] {
                // Rows of one number, and of numbers that turn at every pair.
                let sign = |at: usize| if at / columns % 2 == 1 && at / 2 % 2 == 1 { -1.0 } else { 1.0 };
                let x: Vec<f32> = (0..n * columns).map(sign).collect();
                let mut y = vec![f32::NAN; n * rows];
                matmul(&cpu, Rows::generated(&x), &matrix, &mut y, &mut scratch);
                let what = format!("{cpu:?} {format:?} {byte:#x} {n}");
                assert_close(&y, &product(&x, &values, columns), INT8, &what);
            }
        }
    }
}

#[test]
fn a_packed_row_is_the_files_where_its_numbers_are_kept() {
    let mut random = Random(23);
    let cpu = &cpus()[0];
    for format in Format::ALL {
        for precision in [Precision::Exact, Precision::Fast] {
            let (rows, columns) = (PANEL_ROWS + 3, columns_of(&mut random, format));
            let Case { values, matrix } = case(cpu, &mut random, format, rows, columns, precision);
            let mut row = vec![0.0; columns];
            let is_kept = values.chunks(columns).enumerate().all(|(r, values)| {
                matrix.row_f32(r, &mut row);
                row.iter().zip(values).all(|(packed, value)| packed.to_bits() == value.to_bits())
            });
            assert!(is_kept || !Matrix::keeps(format, precision), "{format:?} {precision:?} {rows} x {columns}");
        }
    }
}

#[test]
fn rows_that_come_in_pieces_are_packed_as_those_that_come_at_once() {
    let mut random = Random(9);
    let cpu = &cpus()[0];
    for format in Format::ALL {
        for precision in [Precision::Exact, Precision::Fast] {
            let (rows, columns) = (3 * PANEL_ROWS + 1 + random.below(PANEL_ROWS), columns_of(&mut random, format));
            let row_bytes = format.row_bytes(columns).unwrap();
            let mut filled = Matrix::empty(format, rows, columns, precision).unwrap();
            // What was there before must leave no trace.
            for _ in 0..2 {
                let bytes = blocks(&mut random, format, rows, columns);
                let whole = Matrix::pack(cpu, format, rows, columns, &bytes, precision).unwrap();
                for first in [2 * PANEL_ROWS, 0, 3 * PANEL_ROWS] {
                    let end = if first == 0 { 2 * PANEL_ROWS } else { rows.min(first + PANEL_ROWS) };
                    filled.fill(cpu, format, first, &bytes[first * row_bytes..end * row_bytes]);
                }
                let read = |matrix: &Matrix| {
                    let mut numbers = vec![0.0_f32; rows * columns];
                    numbers.chunks_mut(columns).enumerate().for_each(|(row, out)| matrix.row_f32(row, out));
                    numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>()
                };
                assert!(read(&filled) == read(&whole), "{format:?} {precision:?} {rows} x {columns}");
                let x = random.floats(columns);
                let mut scratch = Scratch::new();
                let mut product = |matrix: &Matrix| {
                    let mut y = vec![0.0; rows];
                    matmul(cpu, Rows::generated(&x), matrix, &mut y, &mut scratch);
                    y.iter().map(|y| y.to_bits()).collect::<Vec<_>>()
                };
                assert!(product(&filled) == product(&whole), "{format:?} {precision:?} {rows} x {columns}");
            }
            assert!(
                filled.holds(format, rows, columns, precision) && !filled.holds(format, rows + 1, columns, precision)
            );
        }
    }
}

#[test]
#[should_panic(expected = "whole panels")]
fn a_piece_is_whole_panels() {
    let cpu = &cpus()[0];
    let mut matrix = Matrix::empty(Format::F32, 40, 2, Precision::Exact).unwrap();
    matrix.fill(cpu, Format::F32, 8, &[0; 8 * 16]);
}

#[test]
fn rows_are_read_back_from_the_packed_storage() {
    let mut random = Random(2);
    let cpu = &cpus()[0];
    for format in Format::ALL {
        for precision in [Precision::Exact, Precision::Fast] {
            // The second one is whole lines of the cache.
            for columns in [columns_of(&mut random, format), format.block_elements().max(64)] {
                let rows = 35;
                let case = case(cpu, &mut random, format, rows, columns, precision);
                let is_rounded = precision == Precision::Fast && (tolerance(format, precision) - BF16).abs() < 1e-9;
                for (row, expected) in case.values.chunks(columns).enumerate() {
                    let mut found = vec![0.0; columns];
                    case.matrix.row_f32(row, &mut found);
                    for (found, expected) in found.iter().zip(expected) {
                        let expected = if is_rounded { half::bf16::from_f32(*expected).to_f32() } else { *expected };
                        let is_equal = (found + 0.0).to_bits() == (expected + 0.0).to_bits();
                        assert!(is_equal, "{format:?} {precision:?}: {found} instead of {expected}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_neighbours_or_on_threads() {
    let mut random = Random(3);
    let cpus = cpus();
    for pair in cpus.chunks(2) {
        let mut scratch = Scratch::new();
        for format in [Format::F32, Format::Bf16, Format::Q8_0, Format::Q4_0, Format::Q4K, Format::Q5K, Format::Q6K] {
            for precision in [Precision::Exact, Precision::Fast] {
                // Nine blocks where the format has blocks of 32: two at a time leave one.
                let columns = if matches!(format, Format::Q8_0 | Format::Q4_0) { 288 } else { 256 };
                let (n, rows) = (101, 82);
                let case = case(&pair[0], &mut random, format, rows, columns, precision);
                let x = random.floats(n * columns);
                for role in [Role::Prompt, Role::Generated] {
                    let roles = vec![role; n];
                    let mut alone = vec![0.0; n * rows];
                    for (x, y) in x.chunks(columns).zip(alone.chunks_mut(rows)) {
                        matmul(&pair[0], Rows::mixed(x, &[role]), &case.matrix, y, &mut scratch);
                    }
                    for cpu in pair {
                        for count in [2, 3, 4, 5, 6, 7, 9, 13, 16, 19, 32, 35, 37, 64, 70, 100, 101] {
                            let mut together = vec![0.0; count * rows];
                            let x = Rows::mixed(&x[..count * columns], &roles[..count]);
                            matmul(cpu, x, &case.matrix, &mut together, &mut scratch);
                            let equal = together.iter().zip(&alone).all(|(a, b)| a.to_bits() == b.to_bits());
                            assert!(equal, "{cpu:?} {format:?} {precision:?} {role:?} {count} rows");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn rows_of_a_prompt_and_generated_ones_meet_in_one_product() {
    let mut random = Random(7);
    for cpu in cpus() {
        let (mut scratch, columns, n) = (Scratch::new(), 256, 41);
        let x = random.floats(n * columns);
        let roles: Vec<Role> =
            (0..n).map(|_| if random.below(3) == 0 { Role::Generated } else { Role::Prompt }).collect();
        let formats = [Format::Q8_0, Format::Bf16, Format::Q4_0, Format::Q5K, Format::Q6K];
        let cases = formats.map(|format| case(&cpu, &mut random, format, 40, columns, Precision::Fast));
        let mut outputs = formats.map(|_| vec![1.0; n * 40]);
        let mut jobs: Vec<(&Matrix, &mut [f32])> =
            cases.iter().map(|case| &case.matrix).zip(outputs.iter_mut().map(Vec::as_mut_slice)).collect();
        matmul_group(&cpu, Rows::mixed(&x, &roles), &mut jobs, &mut scratch);
        for (case, output) in cases.iter().zip(&outputs) {
            for ((x, role), output) in x.chunks(columns).zip(&roles).zip(output.chunks(40)) {
                let mut alone = vec![0.0; 40];
                matmul(&cpu, Rows::mixed(x, &[*role]), &case.matrix, &mut alone, &mut scratch);
                assert_eq!(alone, output, "{cpu:?} {role:?}");
            }
        }
    }
}

#[test]
fn prompts_wider_than_what_is_unpacked_at_once_are_whole() {
    let mut random = Random(8);
    for cpu in cpus() {
        let (mut scratch, rows, columns, n) = (Scratch::new(), 100, 4096, 70);
        let case = case(&cpu, &mut random, Format::Q4K, rows, columns, Precision::Fast);
        let (x, mut y) = (random.floats(n * columns), vec![f32::NAN; n * rows]);
        matmul(&cpu, Rows::prompt(&x), &case.matrix, &mut y, &mut scratch);
        assert_close(&y, &product(&x, &case.values, columns), INT8, &format!("{cpu:?}"));
    }
}

#[test]
fn a_group_is_its_products_and_add_adds() {
    let mut random = Random(4);
    for cpu in cpus() {
        let (mut scratch, columns, n) = (Scratch::new(), 256, 5);
        let x = random.floats(n * columns);
        let formats = [(Format::Q4K, 40), (Format::Q6K, 7), (Format::F32, 33), (Format::Bf16, 16)];
        let cases: Vec<Case> = formats
            .iter()
            .map(|(format, rows)| case(&cpu, &mut random, *format, *rows, columns, Precision::Fast))
            .collect();
        let mut outputs: Vec<Vec<f32>> = formats.iter().map(|(_, rows)| vec![0.0; n * rows]).collect();
        let mut jobs: Vec<(&Matrix, &mut [f32])> =
            cases.iter().map(|case| &case.matrix).zip(outputs.iter_mut().map(Vec::as_mut_slice)).collect();
        matmul_group(&cpu, Rows::generated(&x), &mut jobs, &mut scratch);
        for (case, output) in cases.iter().zip(&outputs) {
            let mut alone = vec![0.0; output.len()];
            matmul(&cpu, Rows::generated(&x), &case.matrix, &mut alone, &mut scratch);
            assert_eq!(&alone, output);
            let mut sum = vec![1.0; output.len()];
            matmul_add(&cpu, Rows::generated(&x), &case.matrix, &mut sum, &mut scratch);
            assert!(sum.iter().zip(&alone).all(|(sum, alone)| (sum - (1.0 + alone)).abs() < 1e-6));
        }
    }
}

#[test]
fn gathered_rows_equal_single_rows() {
    let mut random = Random(5);
    for cpu in cpus() {
        let (mut scratch, columns, n, rows) = (Scratch::new(), 64, 30, 24);
        let x = random.floats(n * columns);
        for format in [Format::Bf16, Format::Q8_0] {
            let experts: Vec<Case> =
                (0..6).map(|_| case(&cpu, &mut random, format, rows, columns, Precision::Fast)).collect();
            let lists: Vec<Vec<u32>> = [1, 0, 19, 2, 1, 30]
                .iter()
                .map(|count| (0..*count).map(|_| random.below(n) as u32).collect())
                .collect();
            // Each expert twice, as gate and up: the second shares the first one's packing. Then for other rows.
            let jobs: Vec<Gathered<'_>> = [Role::Prompt, Role::Prompt, Role::Generated]
                .iter()
                .flat_map(|role| experts.iter().zip(&lists).map(move |pair| (role, pair)))
                .map(|(role, (expert, rows))| Gathered { weights: &expert.matrix, rows, role: *role })
                .collect();
            let mut expected = Vec::new();
            for job in &jobs {
                for row in job.rows {
                    let mut y = vec![0.0; rows];
                    let x = Rows::mixed(&x[*row as usize * columns..][..columns], std::slice::from_ref(&job.role));
                    matmul(&cpu, x, job.weights, &mut y, &mut scratch);
                    expected.extend(y);
                }
            }
            let mut y = vec![f32::NAN; expected.len()];
            matmul_gathered(&cpu, &x, &jobs, &mut y, &mut scratch);
            assert_eq!(y, expected, "{cpu:?} {format:?}");
        }
    }
}

#[test]
fn no_rows_are_no_work() {
    let mut random = Random(6);
    let (cpu, mut scratch) = (&cpus()[0], Scratch::new());
    let case = case(cpu, &mut random, Format::Q8_0, 20, 32, Precision::Fast);
    matmul(cpu, Rows::generated(&[]), &case.matrix, &mut [], &mut scratch);
    matmul_group(cpu, Rows::generated(&[]), &mut [], &mut scratch);
    matmul_gathered(cpu, &[], &[], &mut [], &mut scratch);
    matmul_gathered(
        cpu,
        &[],
        &[Gathered { weights: &case.matrix, rows: &[], role: Role::Prompt }],
        &mut [],
        &mut scratch,
    );
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let cpu = &cpus()[0];
    let pack = |format, rows, columns, bytes: &[u8]| {
        Matrix::pack(cpu, format, rows, columns, bytes, Precision::Fast).unwrap_err().to_string()
    };
    assert_eq!(pack(Format::Q8_0, 1, 33, &[0; 34]), "33 columns do not divide into blocks of 32 (Q8_0)");
    assert_eq!(pack(Format::Q8_0, 2, 32, &[0; 34]), "the matrix is 34 long, 68 expected");
    assert_eq!(pack(Format::F32, 0, 32, &[]), "a matrix cannot have the shape 0 x 32");
    assert_eq!(pack(Format::F32, usize::MAX, 4, &[]), format!("a matrix cannot have the shape {} x 4", usize::MAX));
}

/// Formats of gate, up and down of one network: alike, mixed as files mix them, and such as meet different activations.
const NETWORKS: [[Format; 3]; 8] = [
    [Format::Q8_0; 3],
    [Format::Q4_0; 3],
    [Format::Bf16; 3],
    [Format::F32; 3],
    [Format::Q4K, Format::Q4K, Format::Q6K],
    [Format::Q4K, Format::Q5K, Format::Bf16],
    [Format::Bf16, Format::Q8_0, Format::Q4_0],
    [Format::F16, Format::Bf16, Format::Bf16],
];

#[test]
fn a_network_is_its_products_one_by_one() {
    let mut random = Random(17);
    for cpu in cpus() {
        let mut scratch = Scratch::new();
        for formats in NETWORKS {
            for precision in [Precision::Exact, Precision::Fast] {
                for n in [0, 1, 3, 4, 16, 17, 35, 90] {
                    let is_super = formats.iter().any(|format| format.block_elements() == 256);
                    let block = if is_super { 256 } else { 32 };
                    // Of plain formats also such as do not fill their units.
                    let plain = formats == [Format::Bf16; 3] || formats == [Format::F32; 3];
                    let some = |random: &mut Random| match plain && random.below(2) == 0 {
                        true => 1 + random.below(150),
                        false => block * (1 + random.below(if is_super { 2 } else { 5 })),
                    };
                    let (columns, inner, rows) = (some(&mut random), some(&mut random), 1 + random.below(70));
                    let mut matrix = |format, rows, columns| {
                        let bytes = blocks(&mut random, format, rows, columns);
                        Matrix::pack(&cpu, format, rows, columns, &bytes, precision).unwrap()
                    };
                    let gate = matrix(formats[0], inner, columns);
                    let up = matrix(formats[1], inner, columns);
                    let down = matrix(formats[2], rows, inner);
                    let x = random.floats(n * columns);
                    let before = random.floats(n * rows);
                    let roles: Vec<Role> = (0..n).map(|_| [Role::Prompt, Role::Generated][random.below(2)]).collect();
                    for x in [Rows::prompt(&x), Rows::generated(&x), Rows::mixed(&x, &roles)] {
                        let (mut gates, mut ups) = (vec![0.0; n * inner], vec![0.0; n * inner]);
                        matmul_group(&cpu, x, &mut [(&gate, &mut gates), (&up, &mut ups)], &mut scratch);
                        swiglu(&cpu, &mut gates, &ups);
                        let mut expected = before.clone();
                        matmul_add(&cpu, x.with(&gates), &down, &mut expected, &mut scratch);
                        let mut y = before.clone();
                        let network = Gated { gate: &gate, up: &up, down: &down };
                        feed_forward(&cpu, x, network, &mut y, &mut scratch);
                        let bits = |y: &[f32]| y.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
                        assert!(
                            bits(&y) == bits(&expected),
                            "{cpu:?} {formats:?} {precision:?} {n} x {columns} x {inner} x {rows}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn panels_that_were_kept_are_the_same_matrix() {
    let cpu = cpu(Isa::Scalar, 1);
    let mut random = Random(11);
    for format in Format::ALL {
        for precision in [Precision::Exact, Precision::Fast] {
            let (rows, columns) = (37, 512);
            let matrix =
                Matrix::pack(&cpu, format, rows, columns, &blocks(&mut random, format, rows, columns), precision);
            let matrix = matrix.unwrap();
            let mut kept = Memory::zeroed(matrix.packed().len() + 128).unwrap();
            kept[64..][..matrix.packed().len()].copy_from_slice(matrix.packed());
            let kept: SharedBytes = Arc::new(kept);
            let end = 64 + matrix.packed().len();
            let of = |range| Matrix::from_packed(format, rows, columns, precision, Arc::clone(&kept), range);
            let found = of(64..end).unwrap();
            let x = random.floats(3 * columns);
            let product = |matrix: &Matrix| {
                let mut out = vec![0.0; 3 * rows];
                matmul(&cpu, Rows::prompt(&x), matrix, &mut out, &mut Scratch::default());
                out
            };
            assert!(product(&found) == product(&matrix), "{format:?}, {precision:?}");
            assert!(of(64..end - 1).unwrap_err().to_string().contains("expected"));
            assert!(of(64..usize::MAX).unwrap_err().to_string().contains("expected"));
            assert!(of(65..end + 1).unwrap_err().to_string().contains("multiple of 64"));
        }
    }
}

/// If this fails, programs find panels on their users' disks that mean something else to them: the version has to grow.
#[test]
fn the_order_of_panels_is_that_of_its_version() {
    let cpu = cpu(Isa::Scalar, 1);
    let mut random = Random(12);
    let mut digest = 0xcbf2_9ce4_8422_2325_u64;
    for format in Format::ALL {
        for precision in [Precision::Exact, Precision::Fast] {
            let bytes = blocks(&mut random, format, 37, 512);
            let matrix = Matrix::pack(&cpu, format, 37, 512, &bytes, precision).unwrap();
            for byte in matrix.packed() {
                digest = (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    assert_eq!((PACKED_VERSION, format!("{digest:016x}").as_str()), (2, "1df6957d4c881b58"));
}
